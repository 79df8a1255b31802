"""Track faces through the frames of a film: close gaps, smooth landmarks, keep identities apart.

A detector's landmarks jitter by a pixel or two from frame to frame, and so would every restored face.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, UsageError
from ..types import Face, Pixels
from .appearance import Appearance, appearance_descriptor
from .cuts import is_cut, thumb_of
from .tracklet import GAP, Tracklet, box_iou

_REMEMBERED = 75  # frames after which the track of someone who went behind another is closed
_MIN_HITS = 4  # detections that confirm a track; one with fewer is a false positive
_LARGEST_SHIFT = 0.06  # of the face's size, how far smoothing may move a landmark, so that fast heads do not lag


class Tracked(NamedTuple):
    """A face in a frame, and its track."""

    track: int  # the same number for the same face throughout a shot; unique in the film, from 0
    face: Face


class Tracker:
    """Takes frames' detections in order; returns each frame's faces, tracked and smoothed, `delay` frames later.

    A frame's result depends on all frames before it and on `delay` frames after it.
    """

    def __init__(self, sigma: float) -> None:
        """`sigma`, in frames, is the width of the smoothing; 0 = faces are numbered but otherwise unchanged.

        Raises UsageError if it is negative or infinite.
        """
        if not 0 <= sigma < float("inf"):
            raise UsageError(f"smoothing must be a number of frames, 0 or more, got {sigma}")
        self.sigma = sigma
        self._reach = int(np.ceil(3 * sigma))
        self.delay = max(self._reach, GAP + 1) if sigma else 0
        self._tracks: list[Tracklet] = []  # those still needed for smoothing, of any shot
        self._open: list[Tracklet] = []  # those of the current shot that may continue
        self._made = self._seen = self._emitted = self._shot = 0
        self._as_seen: deque[list[Tracked]] = deque()

    def update(
        self, faces: Sequence[Face], appearances: Sequence[Appearance | None] | None = None, cut: bool = False
    ) -> Iterator[list[Tracked]]:
        """Add a frame's detections; yield the smoothed faces of the oldest frame once `delay` frames have followed it.

        `cut` says that a new shot begins with this frame: no track continues, and nothing is smoothed across it.
        """
        frame = self._seen
        if cut:
            self._open, self._shot = [], self._shot + 1
        self._open = [t for t in self._open if frame - t.last <= _REMEMBERED]
        rows = [np.array([*face.box, *np.ravel(face.landmarks)], float) for face in faces]
        boxes = np.array([face.box for face in faces], float).reshape(-1, 4)
        appearances = appearances or [None] * len(faces)
        taken = self._matched(frame, boxes, appearances)
        crowded = _crowded(boxes)
        for r, row in enumerate(rows):
            if r not in taken:
                taken[r] = Tracklet(self._made, shot=self._shot)
                self._made += 1
                self._tracks.append(taken[r])
                self._open.append(taken[r])
            # A face partly in front of another has an appearance mixed of both.
            known = taken[r].appearance is None or not crowded[r]
            taken[r].add(frame, row, faces[r].score, appearances[r] if known else None)
            self._recognize(taken[r], frame)
        self._as_seen.append([Tracked(taken[r].number, face) for r, face in enumerate(faces)])
        self._seen += 1
        if self._seen > self._emitted + self.delay:
            yield self._emit()

    def flush(self) -> Iterator[list[Tracked]]:
        """The remaining frames, once the film has ended."""
        while self._emitted < self._seen:
            yield self._emit()

    def _matched(
        self, frame: int, boxes: NDArray[np.float64], appearances: Sequence[Appearance | None]
    ) -> dict[int, Tracklet]:
        """Assign faces, by position in `boxes` [N, 4], to open tracks: greedily, surest pairs first."""
        pairs = [
            (sure, t, r)
            for t, track in enumerate(self._open)
            for r, sure in track.match_scores(frame, boxes, appearances).items()
        ]
        taken: dict[int, Tracklet] = {}
        used: set[int] = set()
        for _, t, r in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if r not in taken and t not in used:
                taken[r] = self._open[t]
                used.add(t)
        return taken

    def _recognize(self, new: Tracklet, frame: int) -> None:
        """Re-identify: merge a new track into a lost one of similar appearance, before any of its frames is emitted."""
        if new.appearance is None or new.first < max(self._emitted, frame - self.delay):
            return
        box = new.values[frame][None, :4]
        lost = [t for t in self._open if t.last < new.first - 1 and t is not new]
        scores = [(t.return_scores(frame, box, [new.appearance]), t) for t in lost]
        known = [(score[0], -t.number, t) for score, t in scores if score]
        if known:
            old = max(known, key=lambda one: one[:2])[2]
            new.number, new.first, new.hits = old.number, old.first, old.hits + new.hits
            self._open = [t for t in self._open if t is not old]

    def _emit(self) -> list[Tracked]:
        """The faces of the next frame, smoothed if requested."""
        frame, as_seen = self._emitted, self._as_seen.popleft()
        self._emitted += 1
        if not self.sigma:
            self._forget(frame + 1)
            return as_seen
        emitted = []
        for track in self._tracks:
            if frame in track.values and not self._is_unconfirmed(track):
                row, score = self._smooth(track, frame)
                points = tuple((float(x), float(y)) for x, y in row[4:].reshape(-1, 2))
                box = (float(row[0]), float(row[1]), float(row[2]), float(row[3]))
                emitted.append(Tracked(track.number, Face(box, points, score)))
        self._forget(frame - self._reach + 1)
        return emitted

    def _is_unconfirmed(self, track: Tracklet) -> bool:
        """Whether a track has too few detections although enough frames have passed; False once its shot has ended."""
        enough = track.shot == self._shot and self._seen > track.first + GAP + 1
        return enough and track.hits < _MIN_HITS

    def _forget(self, before: int) -> None:
        """Discard what smoothing no longer needs of frames before this one."""
        for track in self._tracks:
            track.forget(before)
        goes_on = {id(track) for track in self._open}
        self._tracks = [t for t in self._tracks if t.last >= before or id(t) in goes_on]

    def _smooth(self, track: Tracklet, frame: int) -> tuple[NDArray[np.float64], float]:
        """(box and landmarks [14], score), by a line fitted to the frame's neighbours with Gaussian weights.

        It uses both sides, so it does not lag; a plain mean would pull the ends of a track inwards. The distance values
        may move is limited. The score is a weighted mean, because a low-confidence detection among better ones, often a
        track's first, is the same face.
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


def _crowded(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of a frame's faces, boxes [N, 4], overlap another one: [N]."""
    overlaps = box_iou(boxes[:, None], boxes)
    np.fill_diagonal(overlaps, 0)
    return np.asarray((overlaps > 0.05).any(1))


def smooth_tracks(
    frames: Sequence[Sequence[Face]], sigma: float, pictures: Iterable[Pixels] | None = None
) -> list[tuple[Face, ...]]:
    """Every frame's faces, smoothed by a Gaussian of `sigma` frames; 0 = unchanged.

    Faces lost for up to three frames are interpolated. With the frames' `pictures` [H, W, 3], cuts are detected and
    people who cross are told apart. Raises UsageError for a negative or infinite sigma.
    """
    tracker, emitted = Tracker(sigma), []
    if sigma == 0 or pictures is None:
        emitted = [tracked for faces in frames for tracked in tracker.update(faces)]
    else:
        before = None
        for faces, pixels in zip(frames, pictures, strict=True):
            thumb = thumb_of(pixels)
            cut = before is not None and is_cut(before, thumb)
            emitted += tracker.update(faces, [_appearance(pixels, face) for face in faces], cut)
            before = thumb
    emitted += tracker.flush()
    return [tuple(face for _, face in tracked) for tracked in emitted]


def _appearance(pixels: Pixels, face: Face) -> Appearance | None:
    try:
        return appearance_descriptor(pixels, face)
    except ImageError:  # the face lies outside
        return None
