"""How large images may be, in pixels, and how long a side each format holds."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ImageError
from .photo import JPEG, WEBP, Size

MAX_PIXELS = 160_000_000
"""Largest image read or written: 160 megapixels, above today's cameras, below what exhausts 4 GB."""

_MAX_TOTAL = 4  # times MAX_PIXELS, for all images of a file together
_MAX_SIDES = {**dict.fromkeys(JPEG, ("JPEG", 65_500)), **dict.fromkeys(WEBP, ("WebP", 16_383))}


def check_size(size: Size) -> None:
    """Raise ImageError for an image without pixels, or with more than MAX_PIXELS."""
    width, height = size
    if width < 1 or height < 1:
        raise ImageError("the picture has no pixels")
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 1_000_000
        raise ImageError(f"{width}x{height} is more than {limit} megapixels; shrink or crop it first")


def check_total(pixels: int, count: int) -> None:
    """Raise ImageError when the `count` images of a file have more than four times MAX_PIXELS together."""
    if pixels > _MAX_TOTAL * MAX_PIXELS:
        total, limit = -(-pixels // 1_000_000), _MAX_TOTAL * MAX_PIXELS // 1_000_000
        raise ImageError(f"its {count} pictures have {total} megapixels, more than {limit}; split it first")


def check_sizes(sizes: Sequence[Size]) -> None:
    """Raise ImageError when one of a file's images is too large, or all together are."""
    for size in sizes:
        check_size(size)
    check_total(sum(width * height for width, height in sizes), len(sizes))


def check_sides(sizes: Sequence[Size], suffix: str) -> None:
    """Raise ImageError for images with a side longer than the format of a suffix holds."""
    name, longest = _MAX_SIDES.get(suffix.lower(), ("", None))
    for width, height in sizes:
        if longest is not None and max(width, height) > longest:
            limit = f"{name} holds at most {longest} pixels a side"
            raise ImageError(f"{width}x{height} is too long: {limit}: name a .png file")
