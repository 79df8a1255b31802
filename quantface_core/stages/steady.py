"""The film itself, steadied: its own noise on faces averaged away along their motion, before they are restored."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..faces.align import Matrix
from ..faces.temporal import Link, View, average_film, links_of, mask_over, view_of
from ..types import Pixels

_WIDTH = 3.0  # times the smoothing's: skin that is followed changes more slowly than a head moves


class _Piece(NamedTuple):
    region: tuple[slice, slice]
    pixels: Pixels


@dataclass(frozen=True)
class Steadied:
    """What of a frame is steadied, and how its faces move."""

    pieces: tuple[_Piece, ...] = ()
    links: Mapping[int, dict[int, Link]] = field(default_factory=dict)  # by track, then by distance in frames

    def over(self, pixels: Pixels) -> Pixels:
        """The frame [H, W, 3] with its faces steadied; the frame itself where none is."""
        if not self.pieces:
            return pixels
        result = pixels.copy()
        for region, piece in self.pieces:
            result[region] = piece
        return result


def steadying_reach(smoothing: float) -> int:
    """How many frames before and after a frame are averaged with it."""
    return int(np.ceil(2 * _WIDTH * smoothing))


class RGBFrame(Protocol):
    """A frame as the stages need it."""

    def rgb(self) -> Pixels:
        """[H, W, 3] as it is stored; made anew at every call."""


@dataclass
class _Waiting:
    frame: RGBFrame | None
    levels: Mapping[int, float]
    views: dict[int, View]  # by track


class Steadier:
    """Frames in, in order; what is steadied of them out `delay` frames later, by as many on both sides."""

    def __init__(self, smoothing: float, mask: NDArray[np.float32]) -> None:
        """`smoothing` is in frames; `mask` [S, S] is what of an aligned crop is averaged."""
        self._sigma, self._mask = _WIDTH * smoothing, mask
        self.delay = steadying_reach(smoothing)
        self._window: deque[_Waiting] = deque()
        self._next = 0  # in the window

    def update(
        self, frame: RGBFrame | None, transforms: Mapping[int, Matrix], levels: Mapping[int, float]
    ) -> Iterator[Steadied]:
        """Add a frame with the maps from it to its faces' crops, by track, and how far each is to be steadied, 0 to 1.

        A face with a transform and no level is there for its neighbours alone.
        """
        self._window.append(_Waiting(frame, levels, self._views(frame, transforms)))
        if len(self._window) - self._next > self.delay:
            yield self._settled()

    def flush(self) -> Iterator[Steadied]:
        """The frames that are still owed when the film has ended."""
        while self._next < len(self._window):
            yield self._settled()

    def _views(self, frame: RGBFrame | None, transforms: Mapping[int, Matrix]) -> dict[int, View]:
        views: dict[int, View] = {}
        if frame is None or not transforms or not self._sigma:
            return views
        pixels = frame.rgb()
        for track, transform in transforms.items():
            with suppress(ImageError):  # it has left the picture
                views[track] = view_of(pixels, transform, len(self._mask))
        return views

    def _settled(self) -> Steadied:
        here = self._window[self._next]
        links: dict[int, dict[int, Link]] = {}
        averages: list[tuple[View, float, NDArray[np.float32]]] = []
        for track, level in here.levels.items():
            if not level or track not in here.views:
                continue
            near = self._neighbours(track)
            links[track] = links_of(near, self._sigma)
            if links[track]:
                averages.append((here.views[track], level, average_film(near, links[track])))
        steadied = Steadied(self._pieces(here.frame, averages), links)
        self._next += 1
        if self._next > self.delay:
            self._window.popleft()
            self._next -= 1
        return steadied

    def _neighbours(self, track: int) -> dict[int, View]:
        """A face's views by their distance in frames, as long as it is in every frame; 0 is its own."""
        near = {0: self._window[self._next].views[track]}
        for step in (-1, 1):
            for offset in range(step, step * (self.delay + 1), step):
                position = self._next + offset
                if not 0 <= position < len(self._window) or track not in self._window[position].views:
                    break
                near[offset] = self._window[position].views[track]
        return near

    def _pieces(
        self, frame: RGBFrame | None, averages: Sequence[tuple[View, float, NDArray[np.float32]]]
    ) -> tuple[_Piece, ...]:
        if frame is None or not averages:
            return ()
        pixels, regions = frame.rgb().copy(), []
        # Smaller faces last: by itself a face is followed more closely than as a part of a larger detection around it.
        for view, level, average in sorted(averages, key=lambda one: -one[0].pixels.size):
            height, width = average.shape[:2]
            left, top = view.corner
            soft = level * mask_over(view, self._mask)[..., None]
            region = np.s_[top : top + height, left : left + width]
            own = pixels[region].astype(np.float32)
            mixed = np.clip(np.rint(own + soft * (average - own)), 0, np.iinfo(pixels.dtype).max)
            pixels[region] = mixed.astype(pixels.dtype)
            regions.append(region)
        return tuple(_Piece(region, pixels[region].copy()) for region in regions)
