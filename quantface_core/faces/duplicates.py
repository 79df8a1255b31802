"""Several detections of one face, told apart by their landmarks (non-maximum suppression)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..types import Face

DOUBTFUL_SCORE = 0.6
"""The highest score of a detection that its aligned crop does not confirm."""

# Of two detections of one face: the largest distance over the smaller size, and the largest ratio of sizes.
_SAME_PLACE, _SAME_SIZE = 0.35, 1.8
_Place = tuple[float, float, float]  # a detection's size, and the x, y of the centre of its landmarks, in pixels


def merge(faces: Sequence[Face]) -> tuple[Face, ...]:
    """Non-maximum suppression: keep the best of every group of detections of one face, highest score first."""
    kept: list[Face] = []
    places: list[_Place] = []
    for face in sorted(faces, key=lambda f: (-f.score, f.box)):
        place = _place(face)
        if not _is_among(place, places):
            kept.append(face)
            places.append(place)
    return tuple(kept)


def new_faces(faces: Sequence[Face], known: Sequence[Face]) -> list[Face]:
    """The detections that are none of the known faces."""
    places = [_place(face) for face in known]
    return [face for face in faces if not _is_among(_place(face), places)]


def _place(face: Face) -> _Place:
    x, y = (sum(values) / len(face.landmarks) for values in zip(*face.landmarks, strict=True))
    return face.size, x, y


def _is_among(place: _Place, others: Sequence[_Place]) -> bool:
    """Whether a detection is the same face as one of the others: about the same place and size, by its landmarks.

    Not by overlap: a child's face in front of its mother's chin lies inside hers, but is another face.
    """
    size, x, y = place  # plain floats, not arrays: a crowd of a thousand faces needs a million comparisons
    return any(
        max(size, s) < _SAME_SIZE * min(size, s) and math.hypot(x - a, y - b) < _SAME_PLACE * min(size, s)
        for s, a, b in others
    )


def without_doubtful_parts(faces: Sequence[Face]) -> tuple[Face, ...]:
    """Drop doubtful detections that lie mostly within a confirmed face: an eye, a collar, a beard."""
    sure = [face for face in faces if face.score > DOUBTFUL_SCORE]
    return tuple(
        f
        for f in faces
        if f.score > DOUBTFUL_SCORE or all(_intersection_over_smaller(f, other) < 0.5 for other in sure)
    )


def _intersection_over_smaller(a: Face, b: Face) -> float:
    """Intersection over the smaller box's area, 0 to 1."""
    width = min(a.box[0] + a.box[2], b.box[0] + b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[1] + a.box[3], b.box[1] + b.box[3]) - max(a.box[1], b.box[1])
    smaller = min(a.box[2] * a.box[3], b.box[2] * b.box[3])
    return max(width, 0) * max(height, 0) / max(smaller, 1e-6)
