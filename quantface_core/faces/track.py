"""Faces tracked through the frames of a film, and smoothed: gaps closed, landmarks smoothed, nobody swapped.

A detector's landmarks tremble by a pixel or two from frame to frame, and so would every restored face.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, UsageError
from ..types import Face, Pixels
from .appearance import Appearance, appearance_descriptor, appearance_similarity
from .cuts import is_cut, thumb_of

_SAME_PLACE = 0.3  # of intersection over union from which two frames' boxes may be one face
_GAP = 3  # frames that a face may be lost for and is put back: a detector's blinks are shorter
_REMEMBERED = 75  # frames after which somebody who went behind another is nobody's track any more
# Similarity of appearances below which a near face is another, and from which a lost one is found.
_STRANGER, _SAME_APPEARANCE = 0.5, 0.85
_REACH = 2.5  # times its size, how far from where it was going a lost face may come back
_MIN_HITS = 4  # detections that confirm a track; what has fewer is the detector's error
_LARGEST_SHIFT = 0.06  # of the face's size that smoothing may move a landmark: fast heads keep up
_NEWEST = 0.2  # share of the newest frame in a track's speed and appearance


class Tracked(NamedTuple):
    """A face of a frame and whose it is."""

    track: int  # the same number for the same face through a shot, counted from 0 through the film
    face: Face


@dataclass
class _Track:
    """One face's way through a shot: box and landmarks [14] by frame, as far back as smoothing looks."""

    number: int
    values: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    first: int = -1  # frame
    last: int = -1
    hits: int = 0  # detections
    shot: int = 0
    speed: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))  # pixels a frame, of the box's middle
    appearance: NDArray[np.float64] | None = None

    def expected(self, frame: int) -> NDArray[np.float64]:
        """Its box where it should be by now."""
        box = self.values[self.last][:4].copy()
        box[:2] += self.speed * (frame - self.last)
        return box

    def add(self, frame: int, row: NDArray[np.float64], score: float, appearance: Appearance | None) -> None:
        if self.last >= 0:
            passed, before = frame - self.last, self.values[self.last]
            moved = (row[:2] + row[2:4] / 2 - before[:2] - before[2:4] / 2) / passed
            share = 0.5 if self.last == self.first else _NEWEST
            self.speed = (1 - share) * self.speed + share * moved
            if 1 < passed <= _GAP + 1:
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
        """Drop what no smoothing will ask for, but the last frame it was seen in."""
        for frame in [f for f in self.values if f < before and f != self.last]:
            del self.values[frame], self.scores[frame]


class Tracker:
    """Frames in, in order; the same frames out a little later, each face with its track, smoothed.

    What comes out for a frame depends on all frames before it and on `delay` after it.
    """

    def __init__(self, sigma: float) -> None:
        """`sigma`, in frames, is the width of the smoothing; 0 = faces are numbered and otherwise as they were.

        Raises UsageError for a negative or infinite one.
        """
        if not 0 <= sigma < float("inf"):
            raise UsageError(f"smoothing is a number of frames from 0, got {sigma}")
        self.sigma = sigma
        self._reach = int(np.ceil(3 * sigma))
        self.delay = max(self._reach, _GAP + 1) if sigma else 0
        self._tracks: list[_Track] = []  # of the shots that may still be asked for
        self._open: list[_Track] = []  # of the shot that goes on
        self._made = self._seen = self._told = self._shot = 0
        self._as_seen: deque[list[Tracked]] = deque()

    def update(
        self, faces: Sequence[Face], appearances: Sequence[Appearance | None] | None = None, cut: bool = False
    ) -> Iterator[list[Tracked]]:
        """Add a frame's detections; yield the smoothed faces of the oldest frame once `delay` frames have followed it.

        `cut` says that another shot begins with this frame: no face goes on, nothing is smoothed across.
        """
        frame = self._seen
        if cut:
            self._open, self._shot = [], self._shot + 1
        self._open = [t for t in self._open if frame - t.last <= _REMEMBERED]
        rows = [np.array([*face.box, *np.ravel(face.landmarks)], float) for face in faces]
        appearances = appearances or [None] * len(faces)
        taken = self._matched(frame, rows, appearances)
        crowded = [any(i != j and _overlap(a, b) > 0.05 for j, b in enumerate(rows)) for i, a in enumerate(rows)]
        for r, row in enumerate(rows):
            if r not in taken:
                taken[r] = _Track(self._made, shot=self._shot)
                self._made += 1
                self._tracks.append(taken[r])
                self._open.append(taken[r])
            # One face half before another looks like both.
            known = taken[r].appearance is None or not crowded[r]
            taken[r].add(frame, row, faces[r].score, appearances[r] if known else None)
            self._recognize(taken[r], frame)
        self._as_seen.append([Tracked(taken[r].number, face) for r, face in enumerate(faces)])
        self._seen += 1
        if self._seen > self._told + self.delay:
            yield self._settled()

    def flush(self) -> Iterator[list[Tracked]]:
        """The frames that are still owed when the film has ended."""
        while self._told < self._seen:
            yield self._settled()

    def _matched(
        self, frame: int, rows: Sequence[NDArray[np.float64]], appearances: Sequence[Appearance | None]
    ) -> dict[int, _Track]:
        """The tracks that faces belong to, by the faces' positions: surest pairs first."""
        pairs = [
            (sure, t, r)
            for t, track in enumerate(self._open)
            for r, row in enumerate(rows)
            if (sure := _sureness(track, frame, row, appearances[r])) is not None
        ]
        taken: dict[int, _Track] = {}
        used: set[int] = set()
        for _, t, r in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if r not in taken and t not in used:
                taken[r] = self._open[t]
                used.add(t)
        return taken

    def _recognize(self, new: _Track, frame: int) -> None:
        """Re-identify: merge a new track into a lost one of similar appearance, before any of its frames is emitted."""
        if new.appearance is None or new.first < max(self._told, frame - self.delay):
            return
        row = new.values[frame]
        lost = [t for t in self._open if t.last < new.first - 1 and t is not new]
        alike = [(t, appearance_similarity(t.appearance, new.appearance)) for t in lost if t.appearance is not None]
        sure = [(_sureness_of_lost(t, frame, row, similarity), t) for t, similarity in alike]
        known = [(s, -t.number, t) for s, t in sure if s is not None]
        if known:
            old = max(known, key=lambda one: one[:2])[2]
            new.number, new.first, new.hits = old.number, old.first, old.hits + new.hits
            self._open = [t for t in self._open if t is not old]

    def _settled(self) -> list[Tracked]:
        frame, as_seen = self._told, self._as_seen.popleft()
        self._told += 1
        if not self.sigma:
            self._drop(frame + 1)
            return as_seen
        settled = []
        for track in self._tracks:
            if frame in track.values and not self._is_unconfirmed(track):
                row, score = self._smooth(track, frame)
                points = tuple((float(x), float(y)) for x, y in row[4:].reshape(-1, 2))
                box = (float(row[0]), float(row[1]), float(row[2]), float(row[3]))
                settled.append(Tracked(track.number, Face(box, points, score)))
        self._drop(frame - self._reach + 1)
        return settled

    def _is_unconfirmed(self, track: _Track) -> bool:
        """Whether it has too few detections, with frames enough to tell; before a shot's end there may be too few."""
        enough = track.shot == self._shot and self._seen > track.first + _GAP + 1
        return enough and track.hits < _MIN_HITS

    def _drop(self, before: int) -> None:
        for track in self._tracks:
            track.forget(before)
        goes_on = {id(track) for track in self._open}
        self._tracks = [t for t in self._tracks if t.last >= before or id(t) in goes_on]

    def _smooth(self, track: _Track, frame: int) -> tuple[NDArray[np.float64], float]:
        """(box and landmarks [14], score): a straight line fitted through the neighbours, near ones weighing more.

        It looks both ways, so it does not lag; a plain mean would drag the ends of a track inwards. No value moves far.
        The score is a mean: a detection of low confidence among better ones, often a track's first, is the same face.
        """
        low, high = frame, frame
        while low - 1 in track.values and frame - low < self._reach:
            low -= 1
        while high + 1 in track.values and high - frame < self._reach:
            high += 1
        offsets = np.arange(low - frame, high - frame + 1, dtype=float)
        values = np.stack([track.values[f] for f in range(low, high + 1)])
        weights = np.exp(-0.5 * (offsets / self.sigma) ** 2)
        weights /= weights.sum()
        score = float(weights @ [track.scores[f] for f in range(low, high + 1)])
        middle = float(weights @ offsets)
        centred = offsets - middle
        slope = (weights * centred) @ values / max(float(weights @ centred**2), 1e-9)
        smoothed = weights @ values - slope * middle
        here: NDArray[np.float64] = track.values[frame]
        limit = _LARGEST_SHIFT * float(np.sqrt(np.prod(np.maximum(here[2:4], 1))))
        return here + np.clip(smoothed - here, -limit, limit), score


def smooth_tracks(
    frames: Sequence[Sequence[Face]], sigma: float, pictures: Iterable[Pixels] | None = None
) -> list[tuple[Face, ...]]:
    """Every frame's faces, smoothed by a Gaussian of `sigma` frames; 0 = as they were.

    Faces lost for up to three frames are put back in between. By the frames' `pictures` [H, W, 3], cuts are seen and
    people told apart who cross. Raises UsageError for a negative or infinite sigma.
    """
    tracker, settled = Tracker(sigma), []
    if sigma == 0 or pictures is None:
        settled = [tracked for faces in frames for tracked in tracker.update(faces)]
    else:
        before = None
        for faces, pixels in zip(frames, pictures, strict=True):
            thumb = thumb_of(pixels)
            cut = before is not None and is_cut(before, thumb)
            settled += tracker.update(faces, [_appearance(pixels, face) for face in faces], cut)
            before = thumb
    settled += tracker.flush()
    return [tuple(face for _, face in tracked) for tracked in settled]


def _appearance(pixels: Pixels, face: Face) -> Appearance | None:
    try:
        return appearance_descriptor(pixels, face)
    except ImageError:  # it lies outside
        return None


def _sureness(track: _Track, frame: int, row: NDArray[np.float64], appearance: Appearance | None) -> float | None:
    """How sure a face is the next of a track; None = it is not."""
    alike = None
    if appearance is not None and track.appearance is not None:
        alike = appearance_similarity(track.appearance, appearance)
    lost, expected = frame - track.last, track.expected(frame)
    if lost <= _GAP + 1:
        overlap = max(_overlap(expected, row), _overlap(track.values[track.last], row) - 0.1)
        if overlap < _SAME_PLACE or (alike is not None and alike < _STRANGER):
            return None
        return overlap + (alike or 0.0)
    return None if alike is None else _sureness_of_lost(track, frame, row, alike)


def _sureness_of_lost(track: _Track, frame: int, row: NDArray[np.float64], alike: float) -> float | None:
    """The same for a track that was lost: it comes back about where it was going, and looks the same."""
    expected = track.expected(frame)
    apart = float(np.abs(row[:2] + row[2:4] / 2 - expected[:2] - expected[2:4] / 2).max())
    reach = _REACH * float(np.sqrt(max(float(np.prod(row[2:4])), 1.0)))
    return alike - apart / reach if alike >= _SAME_APPEARANCE and apart <= reach else None


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:4], b[:2] + b[2:4])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / max(float(np.prod(a[2:4]) + np.prod(b[2:4])) - shared, 1e-9)
