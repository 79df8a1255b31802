"""Frames of a film composed from their restored faces, whose changes are averaged over time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from ..faces.fine_detail import FineDetail
from ..faces.paste import Patch, paste
from ..faces.temporal import average_crops, gaussian
from ..types import Crop
from .blending import Blending
from .canvas import enlarged
from .frames import FrameFace, PendingFrame, RestoredCrop, RestoredFrame
from .outcome import measure_strength

_SHARES = 2  # sigma of the shares' temporal average over the smoothing's: they may change more slowly than a face moves


def composing_reach(smoothing: float) -> int:
    """How many frames before and after a frame its faces' changes depend on, at a smoothing in frames."""
    return int(np.ceil(2 * _SHARES * smoothing))


class Composer:
    """Takes groups of frames with restored faces in order; returns each frame once its neighbours in time are known."""

    def __init__(self, blending: Blending, smoothing: float, first: int) -> None:
        """`smoothing` is in frames; `first` is the first frame to compose."""
        self._blending, self._smoothing, self._next = blending, smoothing, first
        self._reach = composing_reach(smoothing)
        self._window: list[PendingFrame] = []  # in order: the next to leave, and their neighbours

    def update(self, group: Sequence[PendingFrame]) -> Iterator[RestoredFrame]:
        """Add frames; yield those whose neighbours are now there."""
        self._window += group
        while self._window[-1].index - self._next >= self._reach:
            yield self._compose_next()
        self._window = [pending for pending in self._window if pending.index >= self._next - self._reach]

    def flush(self) -> Iterator[RestoredFrame]:
        """The remaining frames, once the film has ended."""
        while self._window and self._next <= self._window[-1].index:
            yield self._compose_next()

    def _compose_next(self) -> RestoredFrame:
        """Assemble the next frame, once the frames after it that it depends on are available."""
        start = self._window[0].index
        pending = self._window[self._next - start]
        assert pending.frame is not None
        before = pending.frame.rgb()
        upscale = self._blending.options.upscale
        base, before = enlarged(pending.steadied.over(before), upscale), enlarged(before, upscale)
        patches, faces = [], []
        for track, crop in pending.restored.items():
            change, fine_detail, applied_strength = self._temporal_average(track, pending.index)
            patches.append(Patch(change, self._blending.mask, crop.place, fine_detail))
            faces.append(FrameFace(track, crop.face, applied_strength))
            crop.links.clear()  # large, and only needed for this frame
        pixels, mask = paste(base, patches)
        pixels[mask == 0] = before[mask == 0]  # enlarging spreads the steadied pixels beyond the mask
        self._next += 1
        return RestoredFrame(pending.index, pending.frame, before, pixels, mask, tuple(faces))

    def _temporal_average(self, track: int, index: int) -> tuple[Crop, FineDetail | None, float]:
        """A face's change, averaged with its neighbours in time: (change [S, S, 3], fine detail, applied strength)."""
        near = self._neighbours(track, index)
        weights = [gaussian(i - index, _SHARES * self._smoothing) for i, _ in near]
        total = sum(weights)
        known = [(weight / total, crop) for weight, (_, crop) in zip(weights, near, strict=True) if crop]
        share = np.asarray(sum(weight * crop.fade * crop.share for weight, crop in known), np.float32)
        crops = {i - index: crop for i, crop in near if crop}
        here = crops[0]
        after = average_crops({offset: crop.after for offset, crop in crops.items()}, here.links)
        change = share[..., None] * (after - here.clean)
        fine_detail = self._blending.fine_detail(here.before, change)
        tonings = [crop.toning for crop in crops.values() if crop.toning]
        if len(tonings) * 2 > len(crops):
            change = (here.toning or tonings[0]).tone(here.before, change)
        return change, fine_detail, measure_strength(after - here.clean, share, self._blending.mask)

    def _neighbours(self, track: int, index: int) -> list[tuple[int, RestoredCrop | None]]:
        """(frame, a track's face or None if not restored there) around a frame, as far as the track is unbroken."""
        start = self._window[0].index
        found: deque[tuple[int, RestoredCrop | None]] = deque()
        for frames, add in (
            (range(index, index - self._reach - 1, -1), found.appendleft),
            (range(index + 1, index + self._reach + 1), found.append),
        ):
            for i in frames:
                if not 0 <= i - start < len(self._window) or track not in self._window[i - start].fades:
                    break
                add((i, self._window[i - start].restored.get(track)))
        return list(found)
