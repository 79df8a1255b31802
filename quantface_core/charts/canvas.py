"""A canvas in pixel coordinates, drawn at twice its size and reduced, so that lines and letters come out crisp."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..errors import ImageError
from ..io.atomic import atomic_path

Array = NDArray[np.uint8]
"""An image [H, W, 3]."""

# Okabe and Ito's blue and vermilion are distinct for every kind of colour blindness; the rest is gray.
BLUE, VERMILION = "#0072B2", "#C8500A"
PALE_BLUE, PALE_VERMILION = "#B9D7EA", "#F3CDB3"
INK, SOFT, FAINT, BAND, PAPER = "#1E2328", "#5C656E", "#D5DADF", "#F2F4F6", "#FFFFFF"

_TIMES = 2  # drawn this many times larger


class Canvas:
    """Coordinates are pixels of the finished image, from its upper left corner."""

    def __init__(self, width: int, height: int, ground: Array | None = None) -> None:
        """`ground`: an image of that size to draw on, else paper."""
        self.width, self.height = width, height
        size = (width * _TIMES, height * _TIMES)
        paper = Image.new("RGB", size, PAPER)
        self._image = paper if ground is None else Image.fromarray(ground).resize(size, Image.Resampling.NEAREST)
        self._draw = ImageDraw.Draw(self._image)
        self._pictures: list[tuple[int, int, Array]] = []

    def text(
        self, x: float, y: float, text: str, size: float = 13, anchor: str = "la", color: str = INK, up: bool = False
    ) -> None:
        """Write one line; `anchor` as Pillow's (left, middle, right; ascender, middle, descender). `up`: upwards."""
        font = _font(size * _TIMES)
        if not up:
            self._draw.text((x * _TIMES, y * _TIMES), text, color, font, anchor)
            return
        left, top, right, bottom = font.getbbox(text)
        ink = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
        ImageDraw.Draw(ink).text((1 - left, 1 - top), text, 255, font)
        ink = ink.rotate(90, expand=True)
        corner = (round(x * _TIMES - ink.width / 2), round(y * _TIMES - ink.height / 2))
        self._image.paste(color, (*corner, corner[0] + ink.width, corner[1] + ink.height), ink)

    def line(self, points: Sequence[tuple[float, float]], color: str, width: float = 1) -> None:
        """Join points; horizontal and vertical lines fall on whole pixels."""
        scaled = [(round(x * _TIMES), round(y * _TIMES)) for x, y in points]
        self._draw.line(scaled, color, round(width * _TIMES), joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, color: str) -> None:
        """Fill a rectangle, half open, at least half a pixel wide and high."""
        x0, y0 = round(left * _TIMES), round(top * _TIMES)
        x1, y1 = max(x0, round(right * _TIMES) - 1), max(y0, round(bottom * _TIMES) - 1)
        self._draw.rectangle((x0, y0, x1, y1), color)

    def dot(self, x: float, y: float, radius: float, color: str, fill: str | None = None) -> None:
        """A disc, or with `fill` a ring around it."""
        corners = [(v + sign * radius) * _TIMES for sign in (-1, 1) for v in (x, y)]
        self._draw.ellipse(corners, fill or color, color, _TIMES if fill else 0)

    def picture(self, x: int, y: int, pixels: Array) -> None:
        """Place an image, its pixels unchanged, on top of everything drawn."""
        self._pictures.append((x, y, pixels))

    def finish(self) -> Array:
        """The finished image, uint8 [height, width, 3]."""
        result = np.array(self._image.reduce(_TIMES))
        for x, y, pixels in self._pictures:
            result[y : y + len(pixels), x : x + pixels.shape[1]] = pixels
        return result


@cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def text_width(text: str, size: float = 13) -> float:
    """The width of a line of text in pixels."""
    return _font(size * _TIMES).getlength(text) / _TIMES


def save_chart(array: Array, path: Path) -> None:
    """Write a chart as PNG, atomically. Raises ImageError for another suffix, WriteError."""
    if path.suffix.lower() != ".png":
        raise ImageError(f"{path}: a chart is written as .png")
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, optimize=True)
