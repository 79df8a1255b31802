"""Noisy and compressed faces of several sizes: what cleaning them for the restorer gains.

    python benchmarks/damaged_faces.py [--models quantface-mini-w4a4] [--faces N]

Sharp test faces at several sizes in a photo, with white noise in its pixels, as at high ISO, with the coarse gray grain
of film, or compressed as JPEG; PSNR within the face. "As they are" is the same code with `clean_face` switched off.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import cv2
import numpy as np
from do_no_harm import Face
from with_and_without import compare, parser_of

SIDES = (64, 96, 128, 192, 250)  # pixels of a crop in the photo; none keeps the test files' own compression
NOISES, GRAINS, QUALITIES = (0, 4, 8, 15, 25), (8, 15), (90, 75, 50, 25, 10)  # standard deviations of 255; of JPEG
GRAIN = 1.2  # pixels, sigma of the blur that makes noise the grain of film


def sized(face: Face, side: int) -> Face:
    return np.asarray(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def noisy(faces: list[Face], side: int, sigma: float, coarse: float = 0) -> Iterator[tuple[Face, Face]]:
    """Each face at a size, with seeded noise and clean; coarse noise is gray."""
    for seed, face in enumerate(faces):
        clean = sized(face, side)
        noise = np.random.default_rng(seed).normal(0, sigma, clean.shape)
        if coarse:
            noise = cv2.GaussianBlur(noise[..., :1], (0, 0), coarse)[..., None]
            noise *= sigma / noise.std()
        yield np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8), clean


def compressed(faces: list[Face], side: int, quality: int) -> Iterator[tuple[Face, Face]]:
    """Each face at a size, compressed and not."""
    for face in faces:
        clean = sized(face, side)
        encoded = cv2.imencode(".jpg", clean[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        yield np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1].copy(), clean


def main() -> None:
    arguments = parser_of(__doc__.splitlines()[0], faces=16).parse_args()
    kinds = {
        **{f"noise {sigma}": partial(noisy, sigma=sigma) for sigma in NOISES},
        **{f"grain {sigma}": partial(noisy, sigma=sigma, coarse=GRAIN) for sigma in GRAINS},
        **{f"JPEG {quality}": partial(compressed, quality=quality) for quality in QUALITIES},
    }
    damages = {f"{side} pixels, {kind}": partial(made, side=side) for side in SIDES for kind, made in kinds.items()}
    compare(arguments, damages, "stages.restore.clean_face", lambda *_: None)


if __name__ == "__main__":
    main()
