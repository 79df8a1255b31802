"""How much of each tracked face's restoration is applied: selected frame by frame, faded so that none flickers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..faces.track import Tracked
from ..options import RestoreOptions

_UNSURE = 0.1  # confidence that a face being restored may lose before it is deselected
_SMALLER = 0.85  # of the minimum size, below which a face being restored is deselected
_FADE = 16  # frames over which a restoration fades out, or in


class Fades:
    """Takes the tracked faces of frames in order; returns how far the restoration of each is faded in."""

    def __init__(self, options: RestoreOptions, gradual: bool) -> None:
        """`gradual` = False: nothing fades, it is either 0 or 1."""
        self._options, self._gradual = options, gradual
        self._fades: dict[int, float] = {}  # by track
        self._largest = -1  # track

    def next(self, tracked: Sequence[Tracked]) -> dict[int, float]:
        """The fades of the next frame's faces by track, from 0 = unchanged to 1 = restored."""
        wanted = self._wanted(tracked)
        fades = {}
        for track, _ in tracked:
            target, known = float(track in wanted), self._fades.get(track)
            if known is None or not self._gradual:
                fades[track] = target
            else:
                fades[track] = float(np.clip(target, known - 1 / _FADE, known + 1 / _FADE))
        self._fades.update(fades)
        return fades

    def _wanted(self, tracked: Sequence[Tracked]) -> set[int]:
        options = self._options
        fit = {
            track: face.size
            for track, face in tracked
            if face.score >= options.min_confidence - (_UNSURE if self._fades.get(track) else 0)
            and face.size >= options.min_size * (_SMALLER if self._fades.get(track) else 1)
        }
        if options.faces == "largest" and fit:
            held = fit.get(self._largest, 0.0) / _SMALLER  # the largest stays selected until another is clearly larger
            self._largest = max(fit, key=lambda track: max(fit[track], held if track == self._largest else 0.0))
            return {self._largest}
        return set(fit) if isinstance(options.faces, str) else set(fit) & set(options.faces)
