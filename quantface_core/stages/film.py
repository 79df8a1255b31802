"""Restore the faces of a film, frame by frame, without jitter, flicker or pulsing.

Frames enter and leave in order, with a delay of some frames, because the result for a face depends on its neighbours in
time. The number of frames held in memory does not depend on the film's length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice

import numpy as np

from ..errors import ImageError
from ..faces.align import Matrix, compose, extract, face_transform, invert, resizing
from ..faces.clean import CleanFace, clean_face, remove_artifacts
from ..faces.paste import face_mask
from ..faces.toning import toning_of
from ..faces.track import Tracked, Tracker
from ..options import RestoreOptions, check_options
from ..restorer import Restorer
from ..types import Crop, Face, Pixels
from .blending import choose_share, removal_of, sharpness_of
from .compose import Composer, composing_reach
from .contrast import restore_stretched
from .fades import Fades
from .frames import DetectedFrame, PendingFrame, RestoredCrop, RestoredFrame
from .outcome import measure_strength
from .steady import Steadier, steadying_reach

GROUP = 4
"""Frames per batch of faces. Groups are counted from the film's first frame, so that resuming does not change them."""


def first_needed(first: int, smoothing: float) -> int:
    """The first frame whose pixels are needed for frame `first` to come out as in a run from the film's beginning."""
    return max(0, _first_restored(first, smoothing) - steadying_reach(smoothing))


def _first_restored(first: int, smoothing: float) -> int:
    return max(0, (first - composing_reach(smoothing)) // GROUP * GROUP)


class FilmRestorer:
    """Restores one film. `smoothing` is the sigma, in frames, that landmarks are smoothed by; 0 = frame by frame."""

    def __init__(
        self, restorer: Restorer, options: RestoreOptions, smoothing: float = 2.0, aspect: float = 1.0
    ) -> None:
        """`aspect` is the pixel aspect ratio, width over height. Raises UsageError for invalid options or smoothing."""
        check_options(options)
        self._restorer, self._options, self._smoothing, self._aspect = restorer, options, smoothing, aspect
        self._tracker = Tracker(smoothing)
        self._size = restorer.image_size
        self._mask = face_mask(self._size, options.feather)
        self._fades = Fades(options, gradual=smoothing > 0)
        self._steadier = Steadier(smoothing, self._mask)

    def restore(self, seen: Iterable[DetectedFrame], first: int = 0) -> Iterator[RestoredFrame]:
        """Yield the restored frames from `first` on. All frames before must be given too, from `first_needed` on with
        their pixels."""
        composer = Composer(self._options, self._smoothing, self._mask, first)
        steadied = self._steadied(seen, first)
        while group := list(islice(steadied, GROUP)):  # the last may be smaller
            self._restore_group([one for one in group if one.index >= _first_restored(first, self._smoothing)])
            yield from composer.update(group)
        yield from composer.flush()

    def _steadied(self, seen: Iterable[DetectedFrame], first: int) -> Iterator[PendingFrame]:
        """Frames with their faces tracked and steadied."""
        waiting: deque[PendingFrame] = deque()
        for pending in self._tracked(seen, first_needed(first, self._smoothing)):
            waiting.append(pending)
            fades = pending.fades if pending.index >= _first_restored(first, self._smoothing) else {}
            for steadied in self._steadier.update(pending.frame, pending.transforms, fades):
                waiting[0].steadied = steadied
                yield waiting.popleft()
        for steadied in self._steadier.flush():
            waiting[0].steadied = steadied
            yield waiting.popleft()

    def _tracked(self, seen: Iterable[DetectedFrame], needed: int) -> Iterator[PendingFrame]:
        waiting: deque[PendingFrame] = deque()
        for index, one in enumerate(seen):
            waiting.append(PendingFrame(index, one.frame if index >= needed else None))
            for tracked in self._tracker.update(one.faces, one.appearances, one.cut):
                yield self._with_fades(waiting.popleft(), tracked)
        for tracked in self._tracker.flush():
            yield self._with_fades(waiting.popleft(), tracked)

    def _with_fades(self, pending: PendingFrame, tracked: Sequence[Tracked]) -> PendingFrame:
        pending.tracked, pending.fades = tracked, self._fades.next(tracked)
        pending.transforms = self._transforms(pending)
        return pending

    def _restore_group(self, group: Sequence[PendingFrame]) -> None:
        """Restore the faces of a group of frames together."""
        todo: list[tuple[PendingFrame, int, Face, Matrix, float]] = []
        crops: list[Crop] = []
        cleaned: list[Crop] = []
        for pending in group:
            assert pending.frame is not None
            if not any(pending.fades.values()):
                continue
            pixels, clean_faces = self._without_artifacts(pending)
            faces = dict(pending.tracked)
            for track, transform in pending.transforms.items():
                try:
                    crops.append(extract(pixels, transform, self._size))
                except ImageError:  # it has left the frame
                    continue
                denoised = clean_faces.get(track)
                cleaned.append(denoised.crop(transform, self._size) if denoised else crops[-1])
                back = invert(transform)
                sharp = sharpness_of(pixels, denoised, self._mask, back, self._options)
                todo.append((pending, track, faces[track], back, sharp))
        seed = self._options.seed
        seeds = None if seed is None else [seed + track for _, track, *_ in todo]  # constant through a track
        afters, stretches = restore_stretched(cleaned, self._restorer, self._options, seeds=seeds)
        for (pending, track, face, back, sharp), before, clean, stretch, after in zip(
            todo, crops, cleaned, stretches, afters, strict=True
        ):
            place = compose(resizing(1, 1, self._options.upscale, self._options.upscale), back)
            share = choose_share(clean, after, stretch, self._options.strength, sharp)
            applied_strength = measure_strength(after - clean, share, self._mask)
            fade = pending.fades[track]
            links = pending.steadied.links.get(track, {})
            toning = toning_of(before)
            pending.restored[track] = RestoredCrop(
                face, place, fade, before, clean, after, share, applied_strength, toning, links
            )

    def _without_artifacts(self, pending: PendingFrame) -> tuple[Pixels, dict[int, CleanFace]]:
        """(a frame with its faces steadied and their damage removed as far as they are faded in, which it keeps; by
        track, the faces that had any)."""
        assert pending.frame is not None
        pixels, found = pending.steadied.over(pending.frame.rgb()), {}
        places = {track: invert(transform) for track, transform in pending.transforms.items()}
        for track, place in places.items():
            if face := clean_face(pixels, self._mask, place, film=True):
                found[track] = face
        parts = []
        for track, face in found.items():
            share = np.float32(removal_of(face.removed, self._options) * pending.fades[track]) * self._mask
            parts.append((face, share, places[track]))
        clean = remove_artifacts(pixels, parts)
        pending.steadied = pending.steadied.replaced(clean, [face.area for face in found.values()])
        return clean, found

    def _transforms(self, pending: PendingFrame) -> dict[int, Matrix]:
        """By track: maps from the frame's pixels, which may not be square, to the crops of the faces to restore."""
        if pending.frame is None or not any(pending.fades.values()):
            return {}
        width, height = pending.frame.size
        square = resizing(width, height, square_width(width, self._aspect), height)
        transforms = {}
        for track, face in pending.tracked:
            if pending.fades[track]:
                with suppress(ImageError):  # degenerate landmarks
                    transforms[track] = compose(face_transform(face, self._size), square)
        return transforms


def square_width(width: int, aspect: float) -> int:
    """The width, in square pixels, of an image `width` pixels wide whose pixels are `aspect` times as wide as high."""
    return max(1, round(width * aspect))
