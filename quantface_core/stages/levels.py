"""How far each followed face of a film is to be restored: chosen frame by frame, faded so that none blinks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..faces.track import Tracked
from ..types import RestoreOptions

_UNSURE = 0.1  # of confidence that a face may lose without being left alone
_SMALLER = 0.85  # times the least size at which a face that was large enough is left alone
_FADE = 16  # frames over which a face that is no longer to be restored, or is now, fades


class Levels:
    """Frames' faces in, in order; how far each is to be restored out."""

    def __init__(self, options: RestoreOptions, fades: bool) -> None:
        """`fades` = False: each frame by itself."""
        self._options, self._fades = options, fades
        self._levels: dict[int, float] = {}  # by track
        self._largest = -1  # track

    def next(self, tracked: Sequence[Tracked]) -> dict[int, float]:
        """The levels of the next frame's faces by track, 0 = left alone to 1 = restored."""
        wanted = self._wanted(tracked)
        levels = {}
        for track, _ in tracked:
            target, known = float(track in wanted), self._levels.get(track)
            if known is None or not self._fades:
                levels[track] = target
            else:
                levels[track] = float(np.clip(target, known - 1 / _FADE, known + 1 / _FADE))
        self._levels.update(levels)
        return levels

    def _wanted(self, tracked: Sequence[Tracked]) -> set[int]:
        options = self._options
        fit = {
            track: face.size
            for track, face in tracked
            if face.score >= options.min_confidence - (_UNSURE if self._levels.get(track) else 0)
            and face.size >= options.min_size * (_SMALLER if self._levels.get(track) else 1)
        }
        if options.faces == "largest" and fit:
            held = fit.get(self._largest, 0.0) / _SMALLER  # the largest stays so until another is clearly larger
            self._largest = max(fit, key=lambda track: max(fit[track], held if track == self._largest else 0.0))
            return {self._largest}
        return set(fit) if isinstance(options.faces, str) else set(fit) & set(options.faces)
