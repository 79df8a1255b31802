"""Which of the faces found are restored, and in what order they are counted."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..types import Face, RestoreOptions

_ORDERS = {
    "left-to-right": lambda face: (face.box[0] + face.box[2] / 2, face.box[1], -face.score),
    "size": lambda face: (-face.size, face.box[0], face.box[1]),
    "confidence": lambda face: (-face.score, face.box[0], face.box[1]),
}
ORDERS = tuple(_ORDERS)
_MOST = 9999  # the last position there may be: a photo has fewer faces, and a mistyped range does not fill the memory
_DIGITS = 20  # of a number that is read at all


def parse_positions(text: str) -> tuple[int, ...]:
    """`0,2-4` -> (0, 2, 3, 4): numbers from 0 and ranges; spaces and empty places do no harm. Raises UsageError."""
    positions: list[int] = []
    for part in filter(None, map(str.strip, text.split(","))):
        ends = [end.strip() for end in part.split("-")]
        if len(ends) > 2 or not all(end.isdecimal() and len(end) < _DIGITS for end in ends):
            raise UsageError(f"positions {text!r}: give whole numbers from 0, and ranges, such as 0,2 or 0-3")
        first, last = int(ends[0]), int(ends[-1])
        if not first <= last <= _MOST:
            raise UsageError(f"positions {text!r}: a range goes from the smaller to the larger, up to {_MOST}")
        positions += range(first, last + 1)
    if not positions:
        raise UsageError(f"positions {text!r}: give at least one, such as 0")
    return tuple(positions)


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
