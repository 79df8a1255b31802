"""A frame's planes as arrays: shown as RGB, and changed where faces were restored, every other value as it was.

Films store luma and two chroma planes, which mostly have a lower resolution. What is added to RGB is added to the
planes here through the same linear map, so that no pixel beside a face makes a round trip through RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...types import Pixels

Plane = NDArray[Any]
"""[h, w] uint8, or uint16 of which `bits` are used."""

_WEIGHTS = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114), "bt2020": (0.2627, 0.0593), "smpte240m": (0.212, 0.087)}


@dataclass(frozen=True)
class Coding:
    """How planes encode colours."""

    matrix: str = "bt709"  # bt709, bt601, bt2020, smpte240m; or rgb: the planes are red, green and blue
    full: bool = False  # full range; else luma is 16 to 235 of 8 bits, and chroma 16 to 240
    bits: int = 8  # per value, 8 to 16

    def scales(self) -> tuple[float, float, float]:
        """(black, white - black) of luma, and the span of chroma from -0.5 to 0.5, in stored values."""
        top = float((1 << self.bits) - 1)
        if self.full or self.matrix == "rgb":
            return 0.0, top, top
        unit = float(1 << (self.bits - 8))
        return 16 * unit, 219 * unit, 224 * unit

    def from_rgb(self) -> NDArray[np.float32]:
        """[3, 3] float32: RGB in 0 to 1 -> luma in 0 to 1 and chroma in -0.5 to 0.5."""
        red, blue = _WEIGHTS[self.matrix]
        brightness = np.array([red, 1 - red - blue, blue])
        differences = [(np.eye(3)[i] - brightness) / (2 * (1 - brightness[i])) for i in (2, 0)]
        return np.array([brightness, *differences], np.float32)


def to_rgb(planes: Sequence[Plane], coding: Coding) -> Pixels:
    """Convert planes to RGB [H, W, 3]: uint8 for RGB planes of 8 bits, else uint16 over its full range.

    Luma and chroma of 8 bits fall between RGB's 8-bit values: 16 bits round neither. A single plane is a gray image.
    """
    plain = coding.bits == 8 and coding.matrix == "rgb"
    white, dtype = (255, np.uint8) if plain else (65535, np.uint16)
    black, span, color_span = coding.scales()
    if coding.matrix == "rgb" or len(planes) == 1:
        stacked = np.stack([*planes] * (3 // len(planes)), axis=2).astype(np.float32)
        values = (stacked - black) * np.float32(white / span)
    else:
        size = planes[0].shape[::-1]
        middle = float(1 << (coding.bits - 1))
        stacked = cv2.merge([_stretched(plane.astype(np.float32), size) for plane in planes])
        linear = np.linalg.inv(coding.from_rgb().astype(np.float64)) * np.array([1 / span, *[1 / color_span] * 2])
        offset = -linear @ np.array([black, middle, middle])
        values = cv2.transform(stacked, np.hstack([linear, offset[:, None]]) * white)
    pixels: NDArray[Any] = np.clip(np.rint(values), 0, white).astype(dtype)
    return pixels


def with_change(
    planes: Sequence[Plane], coding: Coding, before: Pixels, after: Pixels, mask: NDArray[np.float32]
) -> list[Plane]:
    """Return new planes with the change between two RGB images, both [H, W, 3] and of the first plane's size.

    The images may differ only where the mask [H, W] is above 0; where they are equal, every value stays as it was.
    """
    changed = [plane.copy() for plane in planes]
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(rows):
        return changed
    # Corners at multiples of 4: a chroma value covers up to 4 x 4 pixels.
    height, width = mask.shape
    top, left = rows[0] // 4 * 4, columns[0] // 4 * 4
    bottom, right = min(height, -(-(rows[-1] + 1) // 4) * 4), min(width, -(-(columns[-1] + 1) // 4) * 4)
    region = np.s_[top:bottom, left:right]
    change = (after[region].astype(np.float32) - before[region]) / np.iinfo(before.dtype).max
    if coding.matrix != "rgb":
        weights = coding.from_rgb()
        change = cv2.transform(change, weights if len(planes) == 3 else weights[:1])
    _, span, color_span = coding.scales()
    parts = change.reshape(*change.shape[:2], -1).astype(np.float32)
    for number, plane in enumerate(changed):
        part = parts[..., number] * np.float32(color_span if number else span)
        _add(plane, part, (top, left), (height, width), coding.bits)
    return changed


def _add(plane: Plane, change: NDArray[np.float32], corner: tuple[int, int], size: tuple[int, int], bits: int) -> None:
    """Add a change at full resolution to a plane that may be subsampled, from a corner in full-resolution pixels on."""
    down, across = -(-size[0] // plane.shape[0]), -(-size[1] // plane.shape[1])
    height, width = -(-change.shape[0] // down), -(-change.shape[1] // across)
    if (down, across) != (1, 1):
        padding = ((0, height * down - change.shape[0]), (0, width * across - change.shape[1]))
        change = np.pad(change, padding, mode="edge").reshape(height, down, width, across).mean((1, 3))
    top, left = corner[0] // down, corner[1] // across
    part = plane[top : top + height, left : left + width]
    # What did not change keeps its value: its change is exactly 0.
    part[:] = np.clip(np.rint(part + change[: part.shape[0], : part.shape[1]]), 0, (1 << bits) - 1).astype(plane.dtype)


def enlarged_planes(planes: Sequence[Plane], factor: int, bits: int) -> list[Plane]:
    """Enlarge every plane by `factor` (Lanczos)."""
    if factor == 1:
        return list(planes)
    top = (1 << bits) - 1
    return [
        np.minimum(
            cv2.resize(plane, (plane.shape[1] * factor, plane.shape[0] * factor), interpolation=cv2.INTER_LANCZOS4),
            top,
        )
        for plane in planes
    ]


def turned(planes: Sequence[Plane], quarters: int, mirrored: bool = False) -> list[Plane]:
    """Planes rotated counter-clockwise by quarter turns, mirrored left to right before if requested."""
    return [np.ascontiguousarray(np.rot90(plane[:, ::-1] if mirrored else plane, quarters)) for plane in planes]


def _stretched(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return plane if plane.shape[::-1] == size else cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)
