"""Which of the faces found are restored, and in what order they are counted."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..types import Face, RestoreOptions

_ORDERS = {
    "left-to-right": lambda face: (face.box[0] + face.box[2] / 2, face.box[1], -face.score),
    "size": lambda face: (-face.size, face.box[0], face.box[1]),
}


def sort_faces(faces: Sequence[Face], options: RestoreOptions) -> tuple[Face, ...]:
    """The faces that are sure and large enough, in the order that positions count. Raises UsageError."""
    if options.order not in _ORDERS:
        raise UsageError(f"unknown face order {options.order!r}: choose one of {', '.join(_ORDERS)}")
    wanted = [f for f in faces if f.score >= options.min_confidence and f.size >= options.min_size]
    return tuple(sorted(wanted, key=_ORDERS[options.order]))


def select_faces(faces: Sequence[Face], options: RestoreOptions) -> tuple[int, ...]:
    """Positions of the faces to restore. Raises UsageError for a choice that is no choice.

    Positions past the last face are left out: one setting serves a folder of different photos.
    """
    if options.faces == "all":
        return tuple(range(len(faces)))
    if options.faces == "largest":
        return (max(range(len(faces)), key=lambda i: faces[i].size),) if faces else ()
    if isinstance(options.faces, str):
        raise UsageError(f"unknown choice of faces {options.faces!r}: use all, largest, or positions such as 0,2")
    return tuple(i for i in sorted(set(options.faces)) if 0 <= i < len(faces))
