"""Distance of the bundled 4-bit model's images to the full-precision model's, at every level of do_no_harm.py.

python benchmarks/low_bit_distance.py [--faces 24]
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from do_no_harm import LEVELS, damaged, restored_at
from images import SHARED, load
from report import describe_machine, table

from quantface_core import load_restorer, restorer_path
from quantface_core.degrade import degrade

MODELS = ("quantface-mini", "quantface-mini-w4a4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=24, help="test faces")
    faces = load(SHARED / "faces" / "test")[: parser.parse_args().faces]
    inputs = {"training's degradations": [degrade(face, seed) for seed, face in enumerate(faces)]}
    inputs |= {name: [damaged(face, level, i) for i, face in enumerate(faces)] for name, level in LEVELS.items()}
    exact, low = (load_restorer(restorer_path(name), dtype=None) for name in MODELS)
    rows: list[list[str | float]] = []
    for name, pictures in inputs.items():
        pairs = [(restored_at(x, exact, "1"), restored_at(x, low, "1")) for x in pictures]
        rows.append([name, float(np.mean([cv2.PSNR(a, b) for a, b in pairs]))])
    print(
        f"{len(faces)} faces, strength 1\n{describe_machine()}\n\n{table(['', 'PSNR to full precision (dB)'], rows, 1)}"
    )


if __name__ == "__main__":
    main()
