"""Scratches in old prints: recall and false positives of the mask, and PSNR of what is inpainted.

    python benchmarks/scratches.py [--photos FOLDER] [--faces N] [--picture scratches.jpg]

Faces in black and white, sepia or colour are damaged by rules of their own, which no training used: Voronoi cracks, a
fold by midpoint displacement, straight scratches and thresholded noise for dust. PSNR is over the damaged pixels; the
rival is OpenCV's inpainting (Telea) by the true mask. Undamaged photos in a folder of one's own (--photos) show false
positives.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from images import SHARED, load
from numpy.typing import NDArray
from report import describe_machine, table

from quantface_core import load_restorer, read_photo, repair_scratches, restorer_path
from quantface_core.bit_depth import to_8_bits
from quantface_core.pipelines.jobs import folder_images
from quantface_core.stages.restore import restore_aligned
from quantface_core.types import Repair

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]
SEED = 3
_NEAR = 3  # pixels around damage that count as damage for false positives


def cracks(side: int, width: float, rng: np.random.Generator) -> Plane:
    """The edges of Voronoi cells, bent."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    coarse = (rng.normal(0, 6, (side // 24,) * 2).astype(np.float32) for _ in "xy")
    bend = [cv2.resize(plane, (side, side), interpolation=cv2.INTER_CUBIC) for plane in coarse]
    centres = rng.uniform(0, side, (int(rng.integers(5, 16)), 2))
    distances = np.sort([np.hypot(x + bend[0] - a, y + bend[1] - b) for a, b in centres], 0)
    return (width - (distances[1] - distances[0])).clip(0, 1)


def fold(side: int, width: float, rng: np.random.Generator) -> Plane:
    """Lines across, by midpoint displacement."""
    plane = np.zeros((side, side), np.uint8)
    for _ in range(2):
        line = np.array([[-9, rng.uniform(0.2, 0.8) * side], [side + 9, rng.uniform(0.2, 0.8) * side]])
        size = 0.12 * side
        while len(line) < 200:
            middle = (line[1:] + line[:-1]) / 2
            middle[:, 1] += rng.normal(0, size, len(middle))
            line, size = np.insert(line, range(1, len(line)), middle, 0), size / 2.2
        points = np.rint(line[:, :: int(rng.choice((-1, 1)))] * 16).astype(np.int32)
        cv2.polylines(plane, [points], False, 255, max(1, round(1.5 * width)), cv2.LINE_AA, 4)
    return np.float32(1 / 255) * plane


def scratches(side: int, width: float, rng: np.random.Generator) -> Plane:
    """Straight lines in any direction, fainter at their ends."""
    plane = np.zeros((side, side), np.float32)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    for _ in range(8):
        angle, (a, b) = rng.uniform(0, np.pi), rng.uniform(0, side, 2)
        along = (x - a) * np.cos(angle) + (y - b) * np.sin(angle)
        across = (y - b) * np.cos(angle) - (x - a) * np.sin(angle)
        reach = rng.uniform(0.1, 0.5) * side
        line = (width / 2 + 0.5 - np.abs(across)).clip(0, 1) * (1.5 - 1.5 * np.abs(along) / reach).clip(0, 1)
        plane = np.maximum(plane, line)
    return plane.astype(np.float32)


def dust(side: int, width: float, rng: np.random.Generator) -> Plane:
    """The peaks of blurred noise."""
    noise = cv2.GaussianBlur(rng.normal(size=(side, side)).astype(np.float32), (0, 0), width)
    return (8 * (noise / noise.std() - 3.2)).clip(0, 1)


Draw = Callable[[int, float, np.random.Generator], Plane]  # side and width in pixels -> opacity [side, side]
KINDS: tuple[tuple[str, Draw, tuple[float, ...]], ...] = (
    ("cracks", cracks, (2, 4)), ("folds", fold, (2, 5)), ("scratches", scratches, (1.2, 2.5)), ("dust", dust, (1, 2)),
)  # fmt: skip


def printed(face: Image, number: int) -> Image:
    """A face [S, S, 3] as an old print: every third in black and white, sepia, colour; a little soft and grainy."""
    image, rng = cv2.GaussianBlur(face.astype(np.float32), (0, 0), 1.0), np.random.default_rng(number)
    if number % 3 < 2:
        gray = image.mean(2, keepdims=True) * 0.8 + 30
        image = gray * ((1, 1, 1) if number % 3 == 0 else (1.0, 0.86, 0.66))
    grain = cv2.GaussianBlur(rng.normal(0, 6, image.shape[:2]), (0, 0), 0.7)
    return np.clip(np.rint(image + grain[..., None]), 0, 255).astype(np.uint8)


def damaged(image: Image, opacity: Plane, rng: np.random.Generator) -> tuple[Image, NDArray[np.bool_]]:
    """An image with light damage, two times in ten dark, and where it is."""
    color = np.full(3, rng.uniform(0, 40)) if rng.random() < 0.2 else rng.uniform(190, 250) * np.array((1, 0.97, 0.9))
    opacity = opacity * np.float32(rng.uniform(0.7, 1))
    result = np.rint(image + opacity[..., None] * (color - image)).astype(np.uint8)
    return result, np.abs(result.astype(int) - image).max(2) > 8


def dilated(mask: NDArray[np.bool_], by: int) -> Image:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1,) * 2, np.uint8)))


def psnr_at(made: Image, true: Image, mask: NDArray[np.bool_]) -> float:
    return float(10 * np.log10(255**2 / np.square(made.astype(float) - true)[mask].mean()))


@dataclass(frozen=True)
class Case:
    """A print, damaged and repaired."""

    whole: Image
    bad: Image
    mask: NDArray[np.bool_]  # of the damage
    repair: Repair

    def scores(self) -> tuple[float, ...]:
        """Share damaged, recall, false positives, and PSNR (dB) of the input, repaired, and inpainted by OpenCV."""
        found = self.repair.mask > 0.5
        rival = np.asarray(cv2.inpaint(self.bad, dilated(self.mask, 1), 3, cv2.INPAINT_TELEA), np.uint8)
        pictures = (self.bad, np.asarray(self.repair.pixels, np.uint8), rival)
        false = found & (dilated(self.mask, _NEAR) == 0)
        return (
            *(float(share) for share in (self.mask.mean(), found[self.mask].mean(), false.mean())),
            *(psnr_at(picture, self.whole, self.mask) for picture in pictures),
        )


def cases(faces: Sequence[Image], draw: Draw, width: float) -> list[Case]:
    """Every face with one kind of damage."""
    made = []
    for number, face in enumerate(faces):
        rng, whole = np.random.default_rng((SEED, number)), printed(face, number)
        bad, mask = damaged(whole, draw(len(face), width, rng), rng)
        made.append(Case(whole, bad, mask, repair_scratches(bad)))
    return made


def false_positives(name: str, pictures: Sequence[Image]) -> list[str]:
    """A row on undamaged pictures."""
    shares = [repair_scratches(picture).share for picture in pictures]
    return [name, f"{np.mean(shares):.2%}", f"{max(shares):.2%}"]


def draw_sheet(shown: Sequence[Case], path: Path) -> None:
    """Damaged, repaired and restored, and as it was, side by side."""
    restorer = load_restorer(restorer_path("quantface-mini-w4a4"), dtype=None)
    rows = [np.hstack([c.bad, restore_aligned(c.repair.pixels, restorer).pixels, c.whole]) for c in shown]
    sheet = cv2.resize(np.vstack(rows), None, fx=0.625, fy=0.625, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=24)
    parser.add_argument("--photos", type=Path, help="a folder of undamaged photos")
    parser.add_argument("--picture", type=Path, help="write some, damaged, repaired and restored, and as they were")
    arguments = parser.parse_args()
    faces = load(SHARED / "faces" / "large")[: arguments.faces]
    print(describe_machine())
    rows, shown = list[list[str | float]](), list[Case]()
    for kind, (name, draw, widths) in enumerate(KINDS):
        for width in widths:
            made = cases(faces, draw, width)
            shares, decibels = np.split(np.mean([case.scores() for case in made], 0), 2)
            rows.append([f"{name}, {width} pixels", *(f"{share:.1%}" for share in shares), *map(float, decibels)])
        shown.append(made[kind])
    header = ("damage", "of the photo", "recall", "false positives", "PSNR there (dB)", "repaired", "OpenCV, true mask")
    print(table(header, rows, 1))
    clean = [false_positives("the same faces", [printed(face, number) for number, face in enumerate(faces)])]
    if arguments.photos:
        photos = [to_8_bits(read_photo(path).pixels) for path in folder_images(arguments.photos)]
        clean.append(false_positives(f"{len(photos)} photos", photos))
    print(table(("undamaged", "false positives, mean", "most"), clean))
    if arguments.picture:
        draw_sheet(shown, arguments.picture)


if __name__ == "__main__":
    main()
