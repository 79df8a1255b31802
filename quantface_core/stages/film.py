"""Restore the faces of a film, frame after frame, so that nothing trembles, flickers or pulses.

Frames come in order and leave in order, a few later: what is done to a face depends on its neighbours in time. How many
are held does not depend on the film's length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..faces.align import Matrix, compose, extract, face_transform, invert, resizing
from ..faces.appearance import Appearance
from ..faces.blend import kept_detail
from ..faces.color import match_color
from ..faces.fine_detail import FineDetail, measure_damage
from ..faces.paste import Patch, face_mask, paste
from ..faces.temporal import Link, average_crops, gaussian
from ..faces.track import Tracked, Tracker
from ..restorer import Restorer
from ..types import Face, Pixels, RestoreOptions
from .levels import Levels
from .restore import Crop, blended, check_options, enlarged, is_gray, measure_strength, restore_crops, to_gray
from .steady import RGBFrame, Steadied, Steadier, steadying_reach

GROUP = 4
"""Frames whose faces are restored at once, counted from the film's first: the same whatever frame work begins with."""

_SHARES = 2  # times the smoothing's width: that of the shares', which may change more slowly than a face moves


@dataclass(frozen=True)
class DetectedFrame:
    """A frame and what was found in it."""

    frame: RGBFrame | None  # None = only its faces matter, for those that come after it
    faces: Sequence[Face]  # in pixels of the square-pixel picture
    appearances: Sequence[Appearance]  # of the faces
    cut: bool = False  # another shot begins here


class RestoredFace(NamedTuple):
    """What was done to a face of a frame."""

    track: int
    face: Face
    applied_strength: float  # of its change, 0 to 1


@dataclass(frozen=True)
class RestoredFrame:
    """A frame after its faces are restored."""

    index: int  # from the film's first
    frame: RGBFrame
    before: Pixels  # enlarged, where that was asked
    pixels: Pixels  # the same size
    mask: NDArray[np.float32]  # where it may have changed, 0 to 1
    faces: tuple[RestoredFace, ...]


@dataclass
class _Work:
    """One face of one frame, restored."""

    face: Face
    place: Matrix  # from the crop to the frame that comes out
    level: float  # how far it is to be restored, 0 to 1
    before: Crop
    after: Crop
    share: Crop
    applied_strength: float  # of its change by itself, 0 to 1
    noise: float  # of detail finer than the crop
    gray: bool
    links: dict[int, Link]  # to the same face in frames around it, by their distance


@dataclass
class _Held:
    """A frame on its way."""

    index: int
    frame: RGBFrame | None
    tracked: Sequence[Tracked] = ()
    levels: dict[int, float] = field(default_factory=dict)  # by track
    transforms: dict[int, Matrix] = field(default_factory=dict)  # from the frame to the crops of faces with a level
    steadied: Steadied = field(default_factory=Steadied)
    works: dict[int, _Work] = field(default_factory=dict)


def first_needed(first: int, smoothing: float) -> int:
    """The first frame whose pixels have to be there for frame `first` to come out as in a run from the beginning."""
    return max(0, _first_restored(first, smoothing) - steadying_reach(smoothing))


def _first_restored(first: int, smoothing: float) -> int:
    return max(0, (first - _reach(smoothing)) // GROUP * GROUP)


def _reach(smoothing: float) -> int:
    """Frames before and after that a frame's shares depend on."""
    return int(np.ceil(2 * _SHARES * smoothing))


class FilmRestorer:
    """One film's way through. Smoothing is the width in frames of what steadies landmarks; 0 = each frame by itself."""

    def __init__(
        self, restorer: Restorer, options: RestoreOptions, smoothing: float = 2.0, aspect: float = 1.0
    ) -> None:
        """`aspect` is a pixel's width over its height. Raises UsageError for options that make no sense."""
        check_options(options)
        self._restorer, self._options, self._smoothing, self._aspect = restorer, options, smoothing, aspect
        self._tracker = Tracker(smoothing)
        self._size = restorer.image_size
        self._mask = face_mask(self._size, options.feather)
        self._levels = Levels(options, fades=smoothing > 0)
        self._steadier = Steadier(smoothing, self._mask)
        self._reach = _reach(smoothing)
        self._window: list[_Held] = []  # restored, in order: those next to come out, and their neighbours
        self._next = 0

    def restore(self, seen: Iterable[DetectedFrame], first: int = 0) -> Iterator[RestoredFrame]:
        """The frames from `first` on. All frames before have to be given, from `first_needed` on with pixels."""
        self._next = first
        for group in self._groups(seen, first):
            self._restore_group([held for held in group if held.index >= _first_restored(first, self._smoothing)])
            self._window += group
            while self._window[-1].index - self._next >= self._reach:
                yield self._finished()
            self._drop()
        while self._window and self._next <= self._window[-1].index:
            yield self._finished()

    def _groups(self, seen: Iterable[DetectedFrame], first: int) -> Iterator[list[_Held]]:
        """Frames with their faces followed and steadied, GROUP at a time; the last may be fewer."""
        group: list[_Held] = []
        for held in self._steadied(seen, first):
            group.append(held)
            if len(group) == GROUP:
                yield group
                group = []
        if group:
            yield group

    def _steadied(self, seen: Iterable[DetectedFrame], first: int) -> Iterator[_Held]:
        waiting: deque[_Held] = deque()
        for held in self._tracked(seen, first_needed(first, self._smoothing)):
            waiting.append(held)
            levels = held.levels if held.index >= _first_restored(first, self._smoothing) else {}
            for steadied in self._steadier.update(held.frame, held.transforms, levels):
                waiting[0].steadied = steadied
                yield waiting.popleft()
        for steadied in self._steadier.flush():
            waiting[0].steadied = steadied
            yield waiting.popleft()

    def _tracked(self, seen: Iterable[DetectedFrame], needed: int) -> Iterator[_Held]:
        waiting: deque[_Held] = deque()
        for index, one in enumerate(seen):
            waiting.append(_Held(index, one.frame if index >= needed else None))
            for tracked in self._tracker.update(one.faces, one.appearances, one.cut):
                yield self._chosen(waiting.popleft(), tracked)
        for tracked in self._tracker.flush():
            yield self._chosen(waiting.popleft(), tracked)

    def _chosen(self, held: _Held, tracked: Sequence[Tracked]) -> _Held:
        held.tracked, held.levels = tracked, self._levels.next(tracked)
        held.transforms = self._transforms(held)
        return held

    def _restore_group(self, group: Sequence[_Held]) -> None:
        """Restore all faces of some frames at once."""
        todo: list[tuple[_Held, int, Face, Matrix]] = []
        crops: list[Crop] = []
        bases: dict[int, Pixels] = {}
        for held in group:
            assert held.frame is not None
            if not any(held.levels.values()):
                continue
            pixels = held.frame.rgb()
            pixels = held.steadied.over(pixels)
            bases[held.index] = enlarged(pixels, self._options.upscale)
            faces = dict(held.tracked)
            for track, transform in held.transforms.items():
                try:
                    crops.append(extract(pixels, transform, self._size))
                except ImageError:  # it has left the picture
                    continue
                todo.append((held, track, faces[track], invert(transform)))
        seed = self._options.seed
        seeds = None if seed is None else [seed + track for _, track, _, _ in todo]  # a face's own through the shot
        restored = restore_crops(crops, self._restorer, self._options, seeds=seeds)
        for (held, track, face, back), before, after in zip(todo, crops, restored, strict=True):
            base = bases[held.index]
            place = compose(resizing(1, 1, self._options.upscale, self._options.upscale), back)
            after = match_color(after, before, self._options.color)
            share, fine_detail = blended(before, after, self._options.strength)
            applied_strength = measure_strength(after - before, share, self._mask)
            noise = measure_damage(fine_detail, base, self._mask, place).noise if fine_detail else 0.0
            level = held.levels[track]
            links = held.steadied.links.get(track, {})
            held.works[track] = _Work(
                face, place, level, before, after, share, applied_strength, noise, is_gray(before), links
            )

    def _transforms(self, held: _Held) -> dict[int, Matrix]:
        """From the frame's pixels, which may not be square, to the crops of the faces that are restored."""
        if held.frame is None or not any(held.levels.values()):
            return {}
        height, width = held.frame.rgb().shape[:2]
        square = resizing(width, height, square_width(width, self._aspect), height)
        transforms = {}
        for track, face in held.tracked:
            if held.levels[track]:
                with suppress(ImageError):  # it has no shape
                    transforms[track] = compose(face_transform(face, self._size), square)
        return transforms

    def _finished(self) -> RestoredFrame:
        """The next frame, now that the frames after it are there."""
        start = self._window[0].index
        held = self._window[self._next - start]
        assert held.frame is not None
        before = held.frame.rgb()
        base = enlarged(held.steadied.over(before), self._options.upscale)
        before = enlarged(before, self._options.upscale)
        patches, faces = [], []
        for track, work in held.works.items():
            change, fine_detail, applied_strength = self._temporal_average(track, held.index)
            patches.append(Patch(change, self._mask, work.place, fine_detail))
            faces.append(RestoredFace(track, work.face, applied_strength))
            work.links.clear()  # large, and of this frame alone
        pixels, mask = paste(base, patches)
        pixels[mask == 0] = before[mask == 0]  # enlarging spreads what is steadied beyond it
        self._next += 1
        return RestoredFrame(held.index, held.frame, before, pixels, mask, tuple(faces))

    def _drop(self) -> None:
        """Forget the frames that nobody will ask for."""
        self._window = [held for held in self._window if held.index >= self._next - self._reach]

    def _temporal_average(self, track: int, index: int) -> tuple[Crop, FineDetail | None, float]:
        """A face's change, averaged with its neighbours in time: (change, fine detail or None, applied strength)."""
        near = self._neighbours(track, index)
        weights = [gaussian(i - index, _SHARES * self._smoothing) for i, _ in near]
        total = sum(weights)
        known = [(weight / total, work) for weight, (_, work) in zip(weights, near, strict=True) if work]
        share = np.asarray(sum(weight * work.level * work.share for weight, work in known), np.float32)
        works = {i - index: work for i, work in near if work}
        here = works[0]
        after = average_crops({offset: work.after for offset, work in works.items()}, here.links)
        change = share[..., None] * (after - here.before)
        noise = sum(weight * work.level * work.noise for weight, work in known)
        automatic = self._options.strength == "auto"
        fine_detail = (
            FineDetail(here.before, kept_detail(here.before, here.before + change), noise) if automatic else None
        )
        if sum(work.gray for work in works.values()) * 2 > len(works):
            change = to_gray(change)
        return change, fine_detail, measure_strength(after - here.before, share, self._mask)

    def _neighbours(self, track: int, index: int) -> list[tuple[int, _Work | None]]:
        """A track's faces around a frame, as long as it is in every frame; None where it is not to be restored."""
        start = self._window[0].index
        found: deque[tuple[int, _Work | None]] = deque()
        for frames, add in (
            (range(index, index - self._reach - 1, -1), found.appendleft),
            (range(index + 1, index + self._reach + 1), found.append),
        ):
            for i in frames:
                if not 0 <= i - start < len(self._window) or track not in self._window[i - start].levels:
                    break
                add((i, self._window[i - start].works.get(track)))
        return list(found)


def square_width(width: int, aspect: float) -> int:
    """Of a picture whose pixels are `aspect` times as wide as high, shown with square ones."""
    return max(1, round(width * aspect))
