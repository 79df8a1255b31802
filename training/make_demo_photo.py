"""Make the demo's photo: NASA's public-domain portrait of Eileen Collins, degraded with a fixed seed.

    python training/make_demo_photo.py nasa_astronaut.png face_detection_yunet_2023mar.onnx

Writes quantface_core/assets/astronaut.jpg and astronaut.json (its detected faces).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from quantface_core import FaceDetector, read_photo
from quantface_core.bit_depth import to_8_bits
from quantface_core.degrade import Degradation, degrade

RECIPE = Degradation(
    blur_sigma=(1.2, 1.2), downscale=(2.0, 2.0), noise_sigma=(8.0, 8.0), jpeg_quality=(60, 60), second_order=0.0
)

photo, detector = read_photo(Path(sys.argv[1])), FaceDetector(Path(sys.argv[2]))
degraded = degrade(to_8_bits(photo.pixels), seed=2026, recipe=RECIPE)
assets = Path(__file__).parent.parent / "quantface_core" / "assets"
Image.fromarray(degraded).save(assets / "astronaut.jpg", quality=92)
stored = np.asarray(Image.open(assets / "astronaut.jpg"))
faces = [face.to_dict() for face in detector(stored) if face.score >= 0.7]
(assets / "astronaut.json").write_text(json.dumps(faces) + "\n", "utf-8")
