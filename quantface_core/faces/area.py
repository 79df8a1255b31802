"""Rectangles of an image, and the tiles in which large ones are processed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_TILE = 1024  # pixels, side of a tile: a float32 copy of a whole photo would take gigabytes


class Area(NamedTuple):
    """A rectangle of pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def is_empty(self) -> bool:
        """Whether it contains no pixel."""
        return self.left >= self.right or self.top >= self.bottom

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.right - self.left, self.bottom - self.top

    @property
    def pixels(self) -> tuple[slice, slice]:
        """The index that selects the area from an image [H, W, ...]."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def intersection(self, other: Area) -> Area:
        """The intersection; an empty area when there is none."""
        low, high = map(max, self[:2], other[:2]), map(min, self[2:], other[2:])
        return Area(*low, *high)

    def union(self, other: Area) -> Area:
        """The smallest area that contains both."""
        low, high = map(min, self[:2], other[:2]), map(max, self[2:], other[2:])
        return Area(*low, *high)

    def expanded(self, margin: int) -> Area:
        """The area, expanded by `margin` pixels on every side."""
        return Area(self.left - margin, self.top - margin, self.right + margin, self.bottom + margin)

    def with_context(self, margin: int, stride: int, image: Area) -> Area:
        """The area with the pixels of an image around it, from multiples of `stride` on: as in every other tile."""
        wide = self.expanded(margin)
        return wide._replace(left=wide.left // stride * stride, top=wide.top // stride * stride).intersection(image)

    def relative_to(self, outer: Area) -> Area:
        """The same area in coordinates relative to the corner of `outer`, which contains it."""
        (left, top), (x, y) = self[:2], outer[:2]
        return Area(left - x, top - y, self.right - x, self.bottom - y)

    def tiles(self) -> Iterator[Area]:
        """The area in tiles of at most 1024 x 1024 pixels, row by row."""
        for top in range(self.top, self.bottom, _TILE):
            for left in range(self.left, self.right, _TILE):
                yield self.intersection(Area(left, top, left + _TILE, top + _TILE))
