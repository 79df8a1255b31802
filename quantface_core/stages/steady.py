"""Denoise the faces of a film before they are restored, by averaging frames along their motion."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..faces.align import Matrix
from ..faces.area import Area
from ..faces.temporal import Link, View, average_film, links_of, view_mask, view_of
from ..types import Pixels

_WIDTH = 3.0  # sigma over that of the smoothing: motion-compensated skin changes more slowly than a head moves


class _Piece(NamedTuple):
    area: Area
    pixels: Pixels


@dataclass(frozen=True)
class Steadied:
    """The steadied parts of a frame, and the motion of its faces."""

    pieces: tuple[_Piece, ...] = ()
    links: Mapping[int, dict[int, Link]] = field(default_factory=dict)  # by track, then distance in frames

    def over(self, frame: Pixels) -> Pixels:
        """The frame [H, W, 3] with its faces steadied; the same array when there is nothing to steady."""
        if not self.pieces:
            return frame
        result = frame.copy()
        for area, pixels in self.pieces:
            result[area.pixels] = pixels
        return result

    def replaced(self, frame: Pixels, areas: Sequence[Area]) -> Steadied:
        """The same with areas of a frame [H, W, 3] put over it."""
        return replace(self, pieces=(*self.pieces, *(_Piece(area, frame[area.pixels].copy()) for area in areas)))


def steadying_reach(smoothing: float) -> int:
    """How many frames before and after a frame are averaged with it, at a smoothing in frames."""
    return int(np.ceil(2 * _WIDTH * smoothing))


class RGBFrame(Protocol):
    """The interface that the stages need of a frame."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels as stored, without converting anything."""

    def rgb(self) -> Pixels:
        """[H, W, 3], uint8 or uint16, as stored; may be converted at every call, and must not be modified."""


@dataclass
class _Waiting:
    fades: Mapping[int, float]
    views: dict[int, View]  # by track


class Steadier:
    """Takes frames in order; returns the steadied parts of each `delay` frames later, averaged over both sides."""

    def __init__(self, smoothing: float, mask: NDArray[np.float32]) -> None:
        """`smoothing` is in frames, 0 = nothing is steadied; `mask` [S, S], 0 to 1, is the part of a crop to steady."""
        self._sigma, self._mask = _WIDTH * smoothing, mask
        self.delay = steadying_reach(smoothing)
        self._window: deque[_Waiting] = deque()
        self._next = 0  # index in the window of the next to return

    def update(
        self, frame: RGBFrame | None, transforms: Mapping[int, Matrix], fades: Mapping[int, float]
    ) -> Iterator[Steadied]:
        """Add a frame, by track the maps from it to its faces' crops, and by track how much to steady each, 0 to 1.

        A face with a transform but no fade only serves as a neighbour of others.
        """
        self._window.append(_Waiting(fades, self._views(frame, transforms)))
        if len(self._window) - self._next > self.delay:
            yield self._emit()

    def flush(self) -> Iterator[Steadied]:
        """The remaining frames, once the film has ended."""
        while self._next < len(self._window):
            yield self._emit()

    def _views(self, frame: RGBFrame | None, transforms: Mapping[int, Matrix]) -> dict[int, View]:
        views: dict[int, View] = {}
        if frame is None or not transforms or not self._sigma:
            return views
        pixels = frame.rgb()
        for track, transform in transforms.items():
            with suppress(ImageError):  # it has left the frame
                views[track] = view_of(pixels, transform, len(self._mask))
        return views

    def _emit(self) -> Steadied:
        """The steadied parts of the next frame."""
        here = self._window[self._next]
        links: dict[int, dict[int, Link]] = {}
        averages: list[tuple[View, float, NDArray[np.float32]]] = []
        for track, fade in here.fades.items():
            if not fade or track not in here.views:
                continue
            near = self._neighbours(track)
            links[track] = links_of(near, self._sigma)
            if links[track]:
                averages.append((here.views[track], fade, average_film(near, links[track])))
        steadied = Steadied(self._pieces(averages), links)
        self._next += 1
        if self._next > self.delay:
            self._window.popleft()
            self._next -= 1
        return steadied

    def _neighbours(self, track: int) -> dict[int, View]:
        """A face's views by distance in frames, 0 being this frame, for as long as its track is unbroken."""
        near = {0: self._window[self._next].views[track]}
        for step in (-1, 1):
            for offset in range(step, step * (self.delay + 1), step):
                position = self._next + offset
                if not 0 <= position < len(self._window) or track not in self._window[position].views:
                    break
                near[offset] = self._window[position].views[track]
        return near

    def _pieces(self, averages: Sequence[tuple[View, float, NDArray[np.float32]]]) -> tuple[_Piece, ...]:
        if not averages:
            return ()
        views = [view for view, _, _ in averages]
        whole = reduce(Area.union, (view.area for view in views))
        pixels = np.empty((whole.bottom, whole.right, 3), views[0].pixels.dtype)  # of the frame, only the views
        for view in views:
            pixels[view.area.pixels] = view.pixels
        # Smaller faces last: a face's own track follows it more closely than a larger detection that contains it.
        averages = sorted(averages, key=lambda one: -one[0].pixels.size)
        for view, fade, average in averages:
            soft, here = fade * view_mask(view, self._mask)[..., None], view.area.pixels
            own = pixels[here].astype(np.float32)
            mixed = np.clip(np.rint(own + soft * (average - own)), 0, np.iinfo(pixels.dtype).max)
            pixels[here] = mixed.astype(pixels.dtype)
        return tuple(_Piece(view.area, pixels[view.area.pixels].copy()) for view, _, _ in averages)
