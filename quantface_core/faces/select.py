"""Which of the detected faces are restored, and in what order positions count them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import UsageError
from ..options import RestoreOptions, check_selection
from ..types import Face
from .align import is_in_view

_LANDMARKS = 5  # of a face: eyes, nose, corners of the mouth
_ORDERS = {
    "left-to-right": lambda face: (face.box[0] + face.box[2] / 2, face.box[1], -face.score),
    "size": lambda face: (-face.size, face.box[0], face.box[1]),
    "confidence": lambda face: (-face.score, face.box[0], face.box[1]),
}


def sort_faces(faces: Sequence[Face], options: RestoreOptions) -> tuple[Face, ...]:
    """The faces of sufficient score and size, in the order that positions count. Raises UsageError."""
    check_selection(options)
    found = list(faces) if isinstance(faces, Iterable) else None
    if found is None or not all(isinstance(face, Face) for face in found):
        raise UsageError(f"faces are what a detector returns, detector(pixels), or [Face(...)], got {faces!r:.60}")
    if any(len(face.landmarks) != _LANDMARKS for face in found):
        raise UsageError(
            f"a face has {_LANDMARKS} landmarks: where you have boxes, detector.within(pixels, boxes) finds them"
        )
    wanted = [f for f in found if f.score >= options.min_confidence and f.size >= options.min_size]
    return tuple(sorted(wanted, key=_ORDERS[options.order]))


def select_faces(faces: Sequence[Face], options: RestoreOptions, width: int, height: int) -> tuple[int, ...]:
    """Positions in `faces` of those to restore in an image of this size, ascending. Raises UsageError.

    Positions past the last face are ignored, so that one setting serves a folder of different photos; so are faces that
    lie wholly outside the image or cannot be aligned.
    """
    return tuple(i for i in _chosen(faces, options) if is_in_view(faces[i], width, height))


def _chosen(faces: Sequence[Face], options: RestoreOptions) -> Sequence[int]:
    check_selection(options)
    if options.faces == "largest":
        return [max(range(len(faces)), key=lambda i: faces[i].size)] if faces else []
    if isinstance(options.faces, str):
        return range(len(faces))
    return [i for i in sorted(set(options.faces)) if 0 <= i < len(faces)]
