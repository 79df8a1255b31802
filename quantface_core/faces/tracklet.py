"""One face through a shot of a film, and how likely a detection continues it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .appearance import Appearance, appearance_similarity

GAP = 3
"""Frames for which a lost face is interpolated: a detector's dropouts are shorter."""

_SAME_PLACE = 0.3  # intersection over union from which boxes in two frames may be one face
# Similarity of appearances below which a nearby face is another, and from which a lost one is recognised.
_STRANGER, _SAME_APPEARANCE = 0.5, 0.85
_REACH = 2.5  # times its size: how far from its predicted place a lost face may reappear
_NEWEST = 0.2  # weight of the newest frame in a track's running speed and appearance


@dataclass
class Tracklet:
    """One face through a shot: box and landmarks [14] by frame, as far back as smoothing reaches."""

    number: int
    values: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    first: int = -1  # frame of the first detection
    last: int = -1  # frame of the latest
    hits: int = 0  # number of detections
    shot: int = 0
    speed: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))  # pixels per frame, of the box's centre
    appearance: NDArray[np.float64] | None = None

    def expected(self, frame: int) -> NDArray[np.float64]:
        """Its box, extrapolated to a frame."""
        box = self.values[self.last][:4].copy()
        box[:2] += self.speed * (frame - self.last)
        return box

    def add(self, frame: int, row: NDArray[np.float64], score: float, appearance: Appearance | None) -> None:
        """Add a detection; a short gap since the last one is interpolated."""
        if self.last >= 0:
            passed, before = frame - self.last, self.values[self.last]
            moved = (row[:2] + row[2:4] / 2 - before[:2] - before[2:4] / 2) / passed
            share = 0.5 if self.last == self.first else _NEWEST
            self.speed = (1 - share) * self.speed + share * moved
            if 1 < passed <= GAP + 1:
                for missed in range(self.last + 1, frame):
                    part = (missed - self.last) / passed
                    self.values[missed] = (1 - part) * before + part * row
                    self.scores[missed] = (1 - part) * self.scores[self.last] + part * score
        if appearance is not None:
            seen = appearance.astype(np.float64)
            self.appearance = seen if self.appearance is None else (1 - _NEWEST) * self.appearance + _NEWEST * seen
        self.first = frame if self.first < 0 else self.first
        self.values[frame], self.scores[frame], self.last = row, score, frame
        self.hits += 1

    def forget(self, before: int) -> None:
        """Discard the frames that smoothing no longer needs, except for the last detection."""
        for frame in [f for f in self.values if f < before and f != self.last]:
            del self.values[frame], self.scores[frame]

    def match_score(self, frame: int, row: NDArray[np.float64], appearance: Appearance | None) -> float | None:
        """How likely a face continues this track; None = it does not."""
        alike = None
        if appearance is not None and self.appearance is not None:
            alike = appearance_similarity(self.appearance, appearance)
        lost, expected = frame - self.last, self.expected(frame)
        if lost <= GAP + 1:
            overlap = max(box_iou(expected, row), box_iou(self.values[self.last], row) - 0.1)
            if overlap < _SAME_PLACE or (alike is not None and alike < _STRANGER):
                return None
            return overlap + (alike or 0.0)
        return None if alike is None else self.return_score(frame, row, alike)

    def return_score(self, frame: int, row: NDArray[np.float64], alike: float) -> float | None:
        """The same once it was lost: it must look the same (`alike`, 0 to 1) and reappear near its expected place."""
        expected = self.expected(frame)
        apart = float(np.abs(row[:2] + row[2:4] / 2 - expected[:2] - expected[2:4] / 2).max())
        reach = _REACH * float(np.sqrt(max(float(np.prod(row[2:4])), 1.0)))
        return alike - apart / reach if alike >= _SAME_APPEARANCE and apart <= reach else None


def box_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes [4 or more]: left, top, width, height."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:4], b[:2] + b[2:4])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / max(float(np.prod(a[2:4]) + np.prod(b[2:4])) - shared, 1e-9)
