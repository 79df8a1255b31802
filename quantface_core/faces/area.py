"""A rectangle of a picture, and the pieces in which a large one is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_TILE = 1024  # pixels of a side worked on at once: a copy in float of a whole photo would take gigabytes


class Area(NamedTuple):
    """A rectangle of a picture's pixels, half open."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def is_empty(self) -> bool:
        return self.left >= self.right or self.top >= self.bottom

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top

    @property
    def pixels(self) -> tuple[slice, slice]:
        """The index of a picture [H, W, ...] that gives the area."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def overlap(self, other: Area) -> Area:
        """What both cover; empty where nothing is."""
        low, high = map(max, self[:2], other[:2]), map(min, self[2:], other[2:])
        return Area(*low, *high)

    def around(self, other: Area) -> Area:
        """The smallest that holds both."""
        low, high = map(min, self[:2], other[:2]), map(max, self[2:], other[2:])
        return Area(*low, *high)

    def grown(self, margin: int) -> Area:
        return Area(self.left - margin, self.top - margin, self.right + margin, self.bottom + margin)

    def seen_from(self, outer: Area) -> Area:
        """The same area, counted from the corner of one that holds it."""
        (left, top), (x, y) = self[:2], outer[:2]
        return Area(left - x, top - y, self.right - x, self.bottom - y)

    def tiles(self) -> Iterator[Area]:
        """The area in pieces that fit the memory, row by row."""
        for top in range(self.top, self.bottom, _TILE):
            for left in range(self.left, self.right, _TILE):
                yield self.overlap(Area(left, top, left + _TILE, top + _TILE))
