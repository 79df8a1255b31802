"""Scratches repaired in old prints: what is found, what is redrawn in vain, and how near it comes to what was there.

    python benchmarks/scratches.py [--photos FOLDER] [--faces N] [--picture scratches.jpg]

Faces in black and white, sepia or colour are damaged by rules of their own, which no training used: Voronoi cracks, a
fold by midpoint displacement, straight scratches and thresholded noise for dust. PSNR is over the damaged pixels; the
rival is OpenCV's inpainting (Telea), which is told where the damage is. Undamaged photos in a folder of one's own
(--photos) say what is redrawn in vain.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
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

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]
SEED = 3
_NEAR = 3  # pixels around damage that may be redrawn with it


def cracks(side: int, width: float, rng: np.random.Generator) -> Plane:
    """The edges of Voronoi cells, bent."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bend = [
        cv2.resize(rng.normal(0, 6, (side // 24,) * 2).astype(np.float32), (side, side), interpolation=2) for _ in "xy"
    ]
    centres = rng.uniform(0, side, (int(rng.integers(5, 16)), 2))
    distances = np.sort([np.hypot(x + bend[0] - a, y + bend[1] - b) for a, b in centres], 0)
    return (width - (distances[1] - distances[0])).clip(0, 1)


def fold(side: int, width: float, rng: np.random.Generator) -> Plane:
    """Lines across, by midpoint displacement."""
    plane = np.zeros((side, side), np.uint8)
    for _ in range(2):
        line, size = (
            np.array([[-9, rng.uniform(0.2, 0.8) * side], [side + 9, rng.uniform(0.2, 0.8) * side]]),
            0.12 * side,
        )
        while len(line) < 200:
            middle = (line[1:] + line[:-1]) / 2 + np.stack(
                [np.zeros(len(line) - 1), rng.normal(0, size, len(line) - 1)], 1
            )
            line, size = np.insert(line, range(1, len(line)), middle, 0), size / 2.2
        line = line[:, :: int(rng.choice((-1, 1)))]
        cv2.polylines(
            plane, [np.rint(line * 16).astype(np.int32)], False, 255, max(1, round(1.5 * width)), cv2.LINE_AA, 4
        )
    return np.float32(1 / 255) * plane


def scratches(side: int, width: float, rng: np.random.Generator) -> Plane:
    """Straight lines in any direction, fainter at their ends."""
    plane = np.zeros((side, side), np.float32)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    for _ in range(8):
        angle, (a, b) = rng.uniform(0, np.pi), rng.uniform(0, side, 2)
        along, across = (
            (x - a) * np.cos(angle) + (y - b) * np.sin(angle),
            (y - b) * np.cos(angle) - (x - a) * np.sin(angle),
        )
        reach = rng.uniform(0.1, 0.5) * side
        plane = np.maximum(
            plane, (width / 2 + 0.5 - np.abs(across)).clip(0, 1) * (1.5 - 1.5 * np.abs(along) / reach).clip(0, 1)
        )
    return plane.astype(np.float32)


def dust(side: int, width: float, rng: np.random.Generator) -> Plane:
    """The peaks of blurred noise."""
    noise = cv2.GaussianBlur(rng.normal(size=(side, side)).astype(np.float32), (0, 0), width)
    return (8 * (noise / noise.std() - 3.2)).clip(0, 1)


KINDS: tuple[tuple[str, Callable[[int, float, np.random.Generator], Plane], tuple[float, ...]], ...] = (
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


def psnr_at(made: Image, true: Image, where: NDArray[np.bool_]) -> float:
    return float(10 * np.log10(255**2 / np.square(made.astype(float) - true)[where].mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=24)
    parser.add_argument("--photos", type=Path, help="a folder of undamaged photos")
    parser.add_argument("--picture", type=Path, help="write some, damaged, repaired and restored, and as they were")
    arguments = parser.parse_args()
    faces = load(SHARED / "faces" / "large")[: arguments.faces]
    print(describe_machine())
    rows = list[list[str | float]]()
    shown = list[tuple[Image, Image, Image]]()
    for kind, (name, draw, widths) in enumerate(KINDS):
        for width in widths:
            scores = defaultdict[str, list[float]](list)
            for number, face in enumerate(faces):
                rng, whole = np.random.default_rng((SEED, number)), printed(face, number)
                bad, where = damaged(whole, draw(len(face), width, rng), rng)
                repair = repair_scratches(bad)
                found, near = (
                    repair.mask > 0.5,
                    cv2.dilate(where.astype(np.uint8), np.ones((2 * _NEAR + 1,) * 2, np.uint8)) > 0,
                )
                inpainted = np.asarray(
                    cv2.inpaint(
                        bad, cv2.dilate(where.astype(np.uint8), np.ones((3, 3), np.uint8)), 3, cv2.INPAINT_TELEA
                    )
                )
                scores["damaged"].append(where.mean())
                scores["found"].append(found[where].mean())
                scores["in vain"].append((found & ~near).mean())
                for key, made in (("before", bad), ("repaired", repair.pixels), ("told", inpainted)):
                    scores[key].append(psnr_at(np.asarray(made, np.uint8), whole, where))
                if number == kind and width == widths[-1]:
                    shown.append((bad, np.asarray(repair.pixels, np.uint8), whole))
            damage, found_share, vain = (f"{np.mean(scores[key]):.1%}" for key in ("damaged", "found", "in vain"))
            rows.append(
                [
                    f"{name}, {width} pixels",
                    damage,
                    found_share,
                    vain,
                    *(float(np.mean(scores[k])) for k in ("before", "repaired", "told")),
                ]
            )
    print(
        table(
            (
                "damage",
                "of the photo",
                "found",
                "redrawn in vain",
                "PSNR there (dB)",
                "repaired",
                "told where, by OpenCV",
            ),
            rows,
            1,
        )
    )
    whole_faces = [repair_scratches(printed(face, number)).share for number, face in enumerate(faces)]
    vain_rows: list[list[str | float]] = [
        ["the same faces, undamaged", f"{np.mean(whole_faces):.2%}", f"{max(whole_faces):.2%}"]
    ]
    if arguments.photos:
        others = [
            repair_scratches(to_8_bits(read_photo(path).pixels)).share for path in folder_images(arguments.photos)
        ]
        vain_rows.append([f"{len(others)} photos", f"{np.mean(others):.2%}", f"{max(others):.2%}"])
    print(table(("undamaged", "redrawn, mean", "most"), vain_rows))
    if arguments.picture:
        restorer = load_restorer(restorer_path("quantface-mini-w4a4"), dtype=None)
        pictures = [np.hstack([bad, restore_aligned(made, restorer).pixels, whole]) for bad, made, whole in shown]
        sheet = cv2.resize(np.vstack(pictures), None, fx=0.625, fy=0.625, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(arguments.picture), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
