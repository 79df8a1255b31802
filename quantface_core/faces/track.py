"""Steady faces through the frames of a video: follow each one, close short gaps, smooth its landmarks.

A detector's landmarks tremble by a pixel or two from frame to frame, and so would every restored face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..types import Face

_SAME_FACE = 0.3  # of intersection over union from which two frames' boxes are one face
_GAP = 3  # frames that a face may be lost for: a detector's blinks are shorter, a cut to another scene is not
_LARGEST_SHIFT = 0.06  # of the face's size that smoothing may move a landmark: fast heads keep up


@dataclass
class _Track:
    """One person's way: values by frame."""

    values: dict[int, NDArray[np.float64]] = field(default_factory=dict)  # box and landmarks, [14]
    scores: dict[int, float] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return max(self.values)


def steady(frames: Sequence[Sequence[Face]], sigma: float) -> list[tuple[Face, ...]]:
    """Every frame's faces, steadied by a Gaussian of `sigma` frames; 0 = as they were.

    Faces lost for up to three frames are put back in between. The smoothing looks both ways, so it does not
    lag. Raises UsageError for a negative or infinite sigma.
    """
    if not 0 <= sigma < float("inf"):
        raise UsageError(f"smoothing is a number of frames from 0, got {sigma}")
    if sigma == 0 or len(frames) < 2:
        return [tuple(faces) for faces in frames]
    steadied: list[list[Face]] = [[] for _ in frames]
    for track in _follow(frames):
        start, values, scores = _filled(track)
        for i, row in enumerate(_smooth(values, sigma)):
            points = tuple((float(x), float(y)) for x, y in row[4:].reshape(5, 2))
            box = (float(row[0]), float(row[1]), float(row[2]), float(row[3]))
            steadied[start + i].append(Face(box, points, float(scores[i])))
    return [tuple(faces) for faces in steadied]


def _follow(frames: Sequence[Sequence[Face]]) -> list[_Track]:
    """Faces of successive frames joined where their boxes overlap most, best pairs first."""
    tracks: list[_Track] = []
    for number, faces in enumerate(frames):
        open_tracks = [t for t in tracks if number - t.last <= _GAP + 1]
        rows = [np.array([*face.box, *np.ravel(face.landmarks)], float) for face in faces]
        pairs = [
            (_overlap(track.values[track.last], row), t, r)
            for t, track in enumerate(open_tracks)
            for r, row in enumerate(rows)
        ]
        taken: dict[int, _Track] = {}
        used: set[int] = set()
        for overlap, t, r in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if overlap >= _SAME_FACE and r not in taken and t not in used:
                taken[r] = open_tracks[t]
                used.add(t)
        for r, row in enumerate(rows):
            if r not in taken:
                taken[r] = _Track()
                tracks.append(taken[r])
            taken[r].values[number], taken[r].scores[number] = row, faces[r].score
    return tracks


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:4], b[:2] + b[2:4])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / max(float(np.prod(a[2:4]) + np.prod(b[2:4])) - shared, 1e-9)


def _filled(track: _Track) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """(first frame, values [T, 14], scores [T]) with gaps filled along straight lines."""
    known = sorted(track.values)
    frames = np.arange(known[0], known[-1] + 1)
    rows = np.stack([track.values[n] for n in known])
    values = np.stack([np.interp(frames, known, column) for column in rows.T], axis=1)
    return known[0], values, np.interp(frames, known, [track.scores[n] for n in known])


def _smooth(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian over time; the ends lean on what frames there are, and no value moves far."""
    offsets = np.arange(len(values))
    weights = np.exp(-0.5 * ((offsets[:, None] - offsets) / sigma) ** 2)
    # A straight line fitted through the weighted neighbours: a plain mean would drag the ends inwards.
    centred = offsets - (weights @ offsets / weights.sum(1))[:, None]
    spread = (weights * centred**2).sum(1)
    slope = (weights * centred) @ values / np.maximum(spread, 1e-9)[:, None]
    mean = weights @ values / weights.sum(1, keepdims=True)
    smoothed = mean + slope * (offsets - weights @ offsets / weights.sum(1))[:, None]
    limit = _LARGEST_SHIFT * np.sqrt(np.prod(np.maximum(values[:, 2:4], 1), axis=1))[:, None]
    return values + np.clip(smoothed - values, -limit, limit)
