"""A film with known ground truth and motion: portraits that cross, talk and come nearer in front of a wall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from quantface_core.io.photos import read_photo

SIDE = 512  # pixels of a portrait
_GRID = 128  # points per side at which motion, which is smooth, is computed


@dataclass(frozen=True)
class Person:
    """A portrait and its place in a frame."""

    number: int  # of the person
    face: NDArray[np.float32]  # [512, 512, 3], 0 to 255
    place: NDArray[np.float64]  # [2, 3]: affine map from portrait to frame
    talks: bool = False  # and blinks, by `expression_map`

    def rendered(self, frame: int) -> NDArray[np.float32]:
        """The portrait as it looks in a frame, [512, 512, 3]."""
        return np.asarray(remap_rows(self.face, expression_map(frame)) if self.talks else self.face)

    def aligned(self, picture: NDArray[np.float32], frame: int) -> NDArray[np.float32]:
        """A frame aligned to the still portrait, [512, 512, 3]."""
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_CUBIC
        portrait = cv2.warpAffine(picture, self.place, (SIDE, SIDE), flags=flags)
        return np.asarray(remap_rows(portrait, inverse_expression_map(frame)) if self.talks else portrait)


def portrait(path: Path) -> NDArray[np.float32]:
    """A portrait [512, 512, 3], 0 to 255, as soft as a lens makes it: finer detail would shimmer when moved."""
    pixels = cv2.resize(read_photo(path).pixels.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 1.0), np.float32)


def oval() -> NDArray[np.float32]:
    """The mask that cuts out a portrait's face, [512, 512] in 0 to 1."""
    return np.clip((1 - radius(0.38, 0.46)) / 0.06, 0, 1).astype(np.float32)


def radius(across: float, down: float) -> NDArray[np.float64]:
    """Each pixel's distance from a portrait's centre as a share of an ellipse's radii, [512, 512]."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    distance: NDArray[np.float64] = np.hypot((x - 0.5) / across, (y - 0.52) / down)
    return distance


def eyes_and_mouth() -> NDArray[np.bool_]:
    """Where a portrait moves while talking and blinking, [512, 512] bool."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    eyes = np.hypot((np.abs(x - 0.5) - 0.123) / 0.09, (y - 0.47) / 0.05) < 1
    mouth = np.hypot((x - 0.5) / 0.14, (y - 0.76) / 0.08) < 1
    return np.asarray(eyes | mouth)


def expression_map(number: int) -> NDArray[np.float32]:
    """The row that each pixel of a talking and blinking portrait is taken from, [512, 512], in a frame at 25 fps.

    The mouth opens and closes three times a second; the eyes blink for a quarter of one.
    """
    x, y = (axis / _GRID for axis in np.meshgrid(np.arange(_GRID), np.arange(_GRID)))
    return _enlarged(_expression(number, x, y))


def inverse_expression_map(number: int) -> NDArray[np.float32]:
    """The inverse: where each row of the still portrait went, [512, 512]."""
    x, rows = (axis / _GRID for axis in np.meshgrid(np.arange(_GRID), np.arange(_GRID)))
    y = rows.copy()
    for _ in range(25):
        y += 0.5 * (rows - _expression(number, x, y))
    return _enlarged(y)


def _expression(number: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    opened = 0.03 * (0.5 - 0.5 * np.cos(number * 2 * np.pi / 8)) * (0.6 + 0.4 * np.sin(number / 11))
    jaw = np.exp(-(((x - 0.5) / 0.14) ** 2) - ((y - 0.78) / 0.09) ** 2)
    shut = 1.2 * max(0.0, 1 - abs(number % 40 - 12) / 3)
    lids = sum(np.exp(-(((x - eye) / 0.09) ** 2) - ((y - 0.47) / 0.05) ** 2) for eye in (0.377, 0.623))
    return y - opened * jaw + shut * lids * (y - 0.47)


def _enlarged(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows as shares of a portrait, [128, 128], converted to its pixels, [512, 512]."""
    still = np.arange(_GRID)[:, None] / _GRID
    moved = cv2.resize((rows - still).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(moved * SIDE + np.arange(SIDE, dtype=np.float32)[:, None], np.float32)


def remap_rows(image: NDArray[Any], rows: NDArray[np.float32]) -> NDArray[Any]:
    """An image [512, 512, 3] with each pixel taken from another row of its column."""
    columns = np.tile(np.arange(SIDE, dtype=np.float32), (SIDE, 1))
    return cv2.remap(image, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def placed(x: float, y: float, size: float, degrees: float) -> NDArray[np.float64]:
    """The affine map [2, 3] of a portrait to `size` pixels around a point, rotated."""
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), degrees, size / SIDE)
    matrix[:, 2] += np.array([x, y]) - SIDE / 2
    return matrix


@dataclass(frozen=True)
class Scene:
    """What is filmed."""

    faces: Sequence[NDArray[np.float32]]
    height: int  # of a frame, pixels
    count: int  # of frames
    piece: tuple[int, int]  # the frames that are made

    def frames(self) -> Iterator[tuple[NDArray[np.float32], list[Person]]]:
        """(ground truth [H, W, 3], 0 to 255, people from back to front) of every frame; there is a cut at two thirds.

        The truth is not rounded: rounding differs between frames, and would be taken for a temporal error.
        """
        faces, height, count = self.faces, self.height, self.count
        width, cut = height * 16 // 9 // 2 * 2, count * 2 // 3
        large = (width * 5 // 4, height * 5 // 4)
        walls = [cv2.GaussianBlur(cv2.resize(face, large), (0, 0), height / 15) for face in faces[2:4]]
        for number in range(*self.piece):
            if number < cut:
                t, wall = number / max(1, cut - 1), walls[0]
                sway = 3 * np.sin(9 * t)
                people = [
                    Person(1, faces[1], placed(width * (0.75 - 0.5 * t), height * 0.52, height * 0.62, -sway)),
                    Person(0, faces[0], placed(width * (0.25 + 0.5 * t), height * 0.5, height * 0.68, sway), True),
                ]
            else:
                t, wall = (number - cut) / max(1, count - cut - 1), 255 - walls[1]
                size, tilt = height * (0.6 + 0.2 * t), 8 * np.sin(5 * t)
                people = [Person(1, faces[1], placed(width * 0.55, height * 0.5, size, tilt), True)]
            left, top = round(width / 5 * t), round(height / 10 * t)
            truth = wall[top : top + height, left : left + width].copy()
            for person in people:
                face = cv2.warpAffine(person.rendered(number), person.place, (width, height), flags=cv2.INTER_LANCZOS4)
                soft = cv2.warpAffine(oval(), person.place, (width, height))[..., None]
                truth = truth * (1 - soft) + face * soft
            yield np.clip(truth, 0, 255), people


def worse(truth: NDArray[np.float32], draws: np.random.Generator, noise: float) -> NDArray[np.uint8]:
    """A frame as an old camera would see it: soft and noisy, by `noise` of 255. Encoding errors come on top."""
    height, width = truth.shape[:2]
    small = cv2.resize(truth, (round(width / 2.2), round(height / 2.2)), interpolation=cv2.INTER_AREA)
    noisy = small + draws.normal(0, noise, small.shape)
    soft = cv2.resize(np.clip(noisy, 0, 255).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(soft + draws.normal(0, noise * 2 / 7, soft.shape)), 0, 255).astype(np.uint8)
