"""Noisy faces of several sizes: what denoising them for the restorer gains.

    python benchmarks/noisy_faces.py [--models quantface-mini-w4a4] [--faces N]

Clean test faces at several sizes in a photo, with white noise in its pixels, as at high ISO; PSNR within the face. "As
they are" is the same code with `denoised` switched off.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import cv2
import numpy as np
from do_no_harm import Face
from images import SHARED, load
from report import describe_machine, table
from with_and_without import COLUMNS, row

from quantface_core import load_restorer, restorer_path

SIDES, NOISES = (96, 128, 192, 256), (0, 4, 8, 15, 25)  # pixels of a crop in the photo; standard deviations of 255


def noisy(faces: list[Face], side: int, sigma: float) -> Iterator[tuple[Face, Face]]:
    """Each face at a size, with seeded noise and clean."""
    for seed, face in enumerate(faces):
        clean = np.asarray(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        noise = np.random.default_rng(seed).normal(0, sigma, clean.shape)
        yield np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8), clean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["quantface-mini-w4a4"])
    parser.add_argument("--faces", type=int, default=16)
    arguments = parser.parse_args()
    faces = load(SHARED / "faces" / "test")[: arguments.faces]
    print(f"{describe_machine()}; {len(faces)} faces")
    for name in arguments.models:
        restorer = load_restorer(restorer_path(name))
        rows: list[list[str | float]] = [
            [f"{side} pixels, noise {sigma}", *row(noisy(faces, side, sigma), restorer, "denoised", lambda x, *_: x)]
            for side in SIDES
            for sigma in NOISES
        ]
        print(f"\n{table([name, *COLUMNS], rows, 2)}", flush=True)


if __name__ == "__main__":
    main()
