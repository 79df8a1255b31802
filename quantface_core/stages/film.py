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
from ..faces.align import Matrix, compose, face_transform, invert, resizing
from ..faces.clean import CleanFace, clean_face, remove_artifacts
from ..faces.paste import face_mask
from ..faces.toning import toning_of
from ..faces.track import Tracked, Tracker
from ..options import RestoreOptions, check_options
from ..restorer import Restorer
from ..types import Pixels
from .blending import Blending
from .compose import Composer, composing_reach
from .contrast import restore_stretched
from .cut_face import CutFace, cut_face
from .fades import Fades
from .frames import DetectedFrame, PendingFrame, RestoredCrop, RestoredFrame
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
        self._restorer, self._smoothing, self._aspect = restorer, smoothing, aspect
        self._tracker = Tracker(smoothing)
        self._size = restorer.image_size
        self._blending = Blending(options, face_mask(self._size, options.feather))
        self._fades = Fades(options, gradual=smoothing > 0)
        self._steadier = Steadier(smoothing, self._blending.mask)

    def restore(self, seen: Iterable[DetectedFrame], first: int = 0) -> Iterator[RestoredFrame]:
        """Yield the restored frames from `first` on. All frames before must be given too, from `first_needed` on with
        their pixels."""
        composer = Composer(self._blending, self._smoothing, first)
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
        todo: list[tuple[PendingFrame, int, CutFace, float]] = []
        for pending in group:
            assert pending.frame is not None
            if not any(pending.fades.values()):
                continue
            pixels, clean_faces = self._without_artifacts(pending)
            for track, transform in pending.transforms.items():
                with suppress(ImageError):  # it has left the frame
                    cut = cut_face(pixels, transform, self._size, clean_faces.get(track))
                    todo.append((pending, track, cut, self._blending.sharpness(pixels, cut)))
        options = self._blending.options
        seeds = None if options.seed is None else [options.seed + track for _, track, *_ in todo]  # constant in a track
        crops = [cut.clean for _, _, cut, _ in todo]
        afters, stretches = restore_stretched(crops, self._restorer, options, seeds=seeds)
        enlarge = resizing(1, 1, options.upscale, options.upscale)
        for (pending, track, cut, sharp), stretch, after in zip(todo, stretches, afters, strict=True):
            pending.restored[track] = RestoredCrop(
                face=dict(pending.tracked)[track],
                place=compose(enlarge, cut.to_image),
                fade=pending.fades[track],
                before=cut.crop,
                clean=cut.clean,
                after=after,
                share=self._blending.share(cut.clean, after, stretch, sharp),
                toning=toning_of(cut.crop),
                links=pending.steadied.links.get(track, {}),
            )

    def _without_artifacts(self, pending: PendingFrame) -> tuple[Pixels, dict[int, CleanFace]]:
        """(a frame with its faces steadied and their damage removed as far as they are faded in, which it keeps; by
        track, the faces that had any)."""
        assert pending.frame is not None
        pixels, mask = pending.steadied.over(pending.frame.rgb()), self._blending.mask
        found, parts = {}, []
        for track, transform in pending.transforms.items():
            place = invert(transform)
            if face := clean_face(pixels, mask, place, film=True):
                found[track] = face
                parts.append((face, np.float32(self._blending.removal(face) * pending.fades[track]) * mask, place))
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
