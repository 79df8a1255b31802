"""One face through a shot of a film, and how likely a detection continues it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .appearance import Appearance, AppearanceLike, appearance_similarity

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

    def match_scores(
        self, frame: int, boxes: NDArray[np.float64], appearances: Sequence[AppearanceLike | None]
    ) -> dict[int, float]:
        """How likely each face of a frame, boxes [N, 4], continues this track, by position; without those that do not.

        A similarity of appearances takes far longer than where the boxes lie, which excludes nearly all: that is first.
        """
        if frame - self.last > GAP + 1:
            return self.return_scores(frame, boxes, appearances)
        overlaps = np.maximum(box_iou(self.expected(frame), boxes), box_iou(self.values[self.last], boxes) - 0.1)
        scores = {}
        for i in np.flatnonzero(overlaps >= _SAME_PLACE).tolist():
            alike = self._similarity(appearances[i])
            if alike is None or alike >= _STRANGER:
                scores[i] = float(overlaps[i]) + (alike or 0.0)
        return scores

    def return_scores(
        self, frame: int, boxes: NDArray[np.float64], appearances: Sequence[AppearanceLike | None]
    ) -> dict[int, float]:
        """The same once it was lost: a face must reappear near its expected place and look the same."""
        expected = self.expected(frame)
        apart = np.abs(boxes[:, :2] + boxes[:, 2:4] / 2 - expected[:2] - expected[2:4] / 2).max(1)
        reach = _REACH * np.sqrt(np.maximum(np.prod(boxes[:, 2:4], axis=1), 1.0))
        scores = {}
        for i in np.flatnonzero(apart <= reach).tolist():
            alike = self._similarity(appearances[i])
            if alike is not None and alike >= _SAME_APPEARANCE:
                scores[i] = alike - float(apart[i]) / float(reach[i])
        return scores

    def _similarity(self, appearance: AppearanceLike | None) -> float | None:
        """None = one of the two is unknown."""
        if appearance is None or self.appearance is None:
            return None
        return appearance_similarity(self.appearance, appearance)


def box_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes [..., 4 or more], broadcast: left, top, width, height in the last dimension."""
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:4], b[..., :2] + b[..., 2:4])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    union = np.prod(a[..., 2:4], axis=-1) + np.prod(b[..., 2:4], axis=-1) - shared
    return np.asarray(shared / np.maximum(union, 1e-9))
