"""Make the template's old print: NASA's public-domain portrait of Eileen Collins in sepia, damaged with a fixed seed.

    python training/make_demo_print.py nasa_astronaut.png

Writes quantface_core/assets/old_print.jpg.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scratch_damage import cracks, creases, dust, scratches

from quantface_core import read_photo
from quantface_core.bit_depth import to_8_bits
from quantface_core.degrade import Degradation, degrade

SEED = 11
SEPIA, PAPER = (1.0, 0.88, 0.70), (0.93, 0.90, 0.83)
RECIPE = Degradation(
    (1.1, 1.1), 0.0, (1.5, 1.5), (5.0, 5.0), 1.0, 0.0, second_order=0.0, coarse_noise=1.0, lossless=1.0
)  # fmt: skip

photo = to_8_bits(read_photo(Path(sys.argv[1])).pixels)
gray = photo @ np.array((0.299, 0.587, 0.114))
image = degrade(np.rint((40 + 0.78 * gray)[..., None] * SEPIA).astype(np.uint8), 2026, RECIPE) / 255
rng = np.random.default_rng(SEED)
for kind in (cracks, cracks, creases, dust, scratches):
    image += 0.9 * kind(len(image), rng)[..., None] * (np.array(PAPER) - image)
target = Path(__file__).parent.parent / "quantface_core" / "assets" / "old_print.jpg"
Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(target, quality=90)
