"""Noisy and compressed faces of several sizes: what cleaning them for the restorer gains.

    python benchmarks/damaged_faces.py [--models quantface-mini-w4a4] [--faces N]

Sharp test faces at several sizes in a photo, with white noise in its pixels, as at high ISO, or compressed as JPEG;
PSNR within the face. "As they are" is the same code with `clean_face` switched off.
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

SIDES = (64, 96, 128, 192, 250)  # pixels of a crop in the photo; none keeps the test files' own compression
NOISES, QUALITIES = (0, 4, 8, 15, 25), (90, 75, 50, 25, 10)  # standard deviations of 255; of JPEG


def sized(face: Face, side: int) -> Face:
    return np.asarray(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def noisy(faces: list[Face], side: int, sigma: float) -> Iterator[tuple[Face, Face]]:
    """Each face at a size, with seeded noise and clean."""
    for seed, face in enumerate(faces):
        clean = sized(face, side)
        noise = np.random.default_rng(seed).normal(0, sigma, clean.shape)
        yield np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8), clean


def compressed(faces: list[Face], side: int, quality: int) -> Iterator[tuple[Face, Face]]:
    """Each face at a size, compressed and not."""
    for face in faces:
        clean = sized(face, side)
        encoded = cv2.imencode(".jpg", clean[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        yield np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1].copy(), clean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["quantface-mini-w4a4"])
    parser.add_argument("--faces", type=int, default=16)
    arguments = parser.parse_args()
    faces = load(SHARED / "faces" / "test")[: arguments.faces]
    print(f"{describe_machine()}; {len(faces)} faces")
    for name in arguments.models:
        restorer = load_restorer(restorer_path(name))
        rows: list[list[str | float]] = []
        for side in SIDES:
            kinds = [*(("noise", noisy, sigma) for sigma in NOISES), *(("JPEG", compressed, q) for q in QUALITIES)]
            for kind, damaged, amount in kinds:
                values = row(damaged(faces, side, amount), restorer, "clean_face", lambda *_: None)
                rows.append([f"{side} pixels, {kind} {amount}", *values])
        print(f"\n{table([name, *COLUMNS], rows, 2)}", flush=True)


if __name__ == "__main__":
    main()
