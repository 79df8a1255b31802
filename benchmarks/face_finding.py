"""Count the faces found in scenes made of the shared portraits: rotated, overlapping, tiny, many, and none.

    OMP_NUM_THREADS=1 python benchmarks/face_finding.py

Reads ../shared/faces and ../shared/photos. A detection counts from 0.7 on, the default of `--min-confidence`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from images import SHARED, load
from report import describe_machine, table

from quantface_core import FaceDetector, detector_path, read_photo
from quantface_core.types import Face, Pixels

_SURE = 0.7
Row = list[str | float]


def turned(pixels: Pixels, angle: float) -> Pixels:
    """The whole image rotated by `angle` degrees, on gray."""
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    size = np.abs(matrix[:, :2]) @ [width, height] + 2
    matrix[:, 2] += (size - [width, height]) / 2
    return cv2.warpAffine(pixels, matrix, tuple(int(s) for s in size), borderValue=(120, 120, 120))


def square(pixels: Pixels, side: int) -> Pixels:
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA if side < len(pixels) else cv2.INTER_CUBIC)


def crowd(portraits: Sequence[Pixels]) -> Pixels:
    scene = np.full((1024, 1280, 3), 110, np.uint8)
    for i, portrait in enumerate(portraits[:24]):
        top, left = 30 + i // 6 * 245, 20 + i % 6 * 210
        scene[top : top + 180, left : left + 180] = square(portrait, 180)
    return scene


def mosaic(portraits: Sequence[Pixels], side: int = 100, columns: int = 13, count: int = 125) -> Pixels:
    scene = np.full((-(-count // columns) * side, columns * side, 3), 100, np.uint8)
    for i in range(count):
        top, left = i // columns * side, i % columns * side
        scene[top : top + side, left : left + side] = square(portraits[i % len(portraits)], side)
    return scene


def before_a_chin(portraits: Sequence[Pixels], i: int) -> Pixels:
    scene = np.full((1000, 900, 3), 120, np.uint8)
    scene[60:828, 60:828] = square(portraits[i], 768)
    scene[640:860, 340:560] = square(portraits[(i + 7) % 24], 220)
    return scene


def strip(portraits: Sequence[Pixels], count: int = 150, width: int = 32000) -> Pixels:
    scene = np.full((240, width, 3), 115, np.uint8)
    for i in range(count):
        left = i * width // count + 4
        scene[20:220, left : left + 200] = square(portraits[i % len(portraits)], 200)
    return scene


def halftone(portrait: Pixels, period: float) -> Pixels:
    """A portrait as a newspaper prints it: round dots at 45 degrees, `period` pixels apart."""
    gray = cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY) / 255.0
    across, down = np.meshgrid(np.arange(gray.shape[1]), np.arange(gray.shape[0]))
    waves = [np.cos(2**0.5 * np.pi / period * axis) for axis in (across + down, across - down)]
    dots = np.clip((gray - (waves[0] + waves[1]) / 4 - 0.5) * 6 + 0.5, 0, 1)
    ink = cv2.GaussianBlur(15 + 225 * dots, (0, 0), 0.8)
    return np.repeat(np.rint(ink).astype(np.uint8)[..., None], 3, axis=2)


def near(faces: list[Face], x: float, y: float, reach: float) -> bool:
    return any(np.hypot(*(np.mean(f.landmarks, axis=0) - (x, y))) < reach for f in faces)


def rows(find: Callable[[Pixels], list[Face]]) -> Iterator[Row]:
    large, small = (load(SHARED / "faces" / name) for name in ("large", "test"))
    hopper, astronaut, solvay = (
        read_photo(SHARED / "photos" / name).pixels
        for name in ("usnavy_grace_hopper.jpg", "nasa_astronaut.png", "solvay_1927_group.jpg")
    )
    angles = range(0, 360, 30)
    yield ["portrait turned by 30 degrees a step", 12, sum(len(find(turned(hopper, a))) == 1 for a in angles)]
    for quarter in range(4):
        found = len(find(np.asarray(np.rot90(crowd(large), quarter), np.uint8, order="C")))
        yield [f"24 portraits, turned by {quarter * 90}", 24, found]
    both = 0
    for i in range(20):
        faces = find(before_a_chin(large, i))
        both += near(faces, 450, 750, 60) and near(faces, 444, 444, 120)
    yield ["220 pixels before the chin of 768: both", 20, both]
    yield ["150 faces in a strip of 32000", 150, len(find(strip(small)))]
    yield ["mosaic of 125", 125, len(find(mosaic(small)))]
    yield ["group photo", 29, len(find(solvay))]
    for period in (3, 4, 5, 6):
        prints = [halftone(square(portrait, 300), period) for portrait in large[:12]]
        yield [f"halftone prints, dots of {period} pixels", 12, sum(len(find(one)) == 1 for one in prints)]
    for contrast in (0.15, 0.1, 0.05):
        pale = np.rint(150 + contrast * crowd(large)).astype(np.uint8)
        yield [f"24 portraits at {contrast} of the contrast", 24, len(find(pale))]
    turns = [find(turned(astronaut, angle)) for angle in range(0, 360, 45)]
    yield ["astronaut turned by 45 degrees a step, all finds", 8, sum(map(len, turns))]
    yield ["aligned portraits, all finds", 64, sum(len(find(portrait)) for portrait in small)]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    detector = FaceDetector(detector_path())

    def find(pixels: Pixels) -> list[Face]:
        return [face for face in detector(pixels) if face.score >= _SURE]

    began = time.process_time()
    print(describe_machine())
    print(table(["", "faces", "found"], list(rows(find)), digits=0))
    print(f"{time.process_time() - began:.0f} s of CPU time")


if __name__ == "__main__":
    main()
