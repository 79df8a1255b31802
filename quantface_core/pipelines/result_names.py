"""How the results of photos are named."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import TypeVar

from ..io.photos import WRITABLE

_LONGEST = 255  # bytes of a name, on common file systems
_Name = TypeVar("_Name", bound=PurePath)


def result_name(photo: PurePath, suffixes: Sequence[str] = ()) -> str:
    """The file name of a photo's result: the photo's own if its suffix is one of the `suffixes` of the format asked
    for, else with the first of them. Without any, the format is the photo's own, or PNG where that cannot be written.
    """
    if photo.suffix.lower() in (suffixes or WRITABLE):
        return photo.name
    return _joined(photo.stem, suffixes[0] if suffixes else ".png")


def name_results(
    photos: Sequence[PurePath], wanted: Sequence[_Name], compare: bool
) -> list[tuple[_Name, _Name | None]]:
    """The photos' results and comparisons, as `distinct_names`; a photo's own name is first its own result's."""
    order = sorted(range(len(photos)), key=lambda index: wanted[index].suffix != photos[index].suffix)
    named = dict(zip(order, distinct_names((wanted[index] for index in order), compare), strict=True))
    return [named[index] for index in range(len(photos))]


def distinct_names(wanted: Iterable[_Name], compare: bool = False) -> Iterator[tuple[_Name, _Name | None]]:
    """Yield names of results, and of their comparisons if asked for; a second of the same name gets a number.

    Names that differ only in case, or in how an accent is encoded, are the same, as they are on macOS and Windows.
    """
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # name -> the number it gets next
    for name in wanted:
        pair = name, _with_end(name, "_compare.png") if compare else None
        (folded,) = _folded(name)
        number = numbers.get(folded, 2)
        while taken & _folded(*pair):
            # Both are cut before their number: of a long name, a comparison cut after it would stay the same.
            side_by_side = _with_end(name, f"_{number}_compare.png") if compare else None
            pair = _with_end(name, f"_{number}{name.suffix}"), side_by_side
            number += 1
        numbers[folded] = number
        taken |= _folded(*pair)
        yield pair


def _folded(*names: PurePath | None) -> set[str]:
    return {unicodedata.normalize("NFC", str(name)).casefold() for name in names if name is not None}


def _with_end(path: _Name, end: str) -> _Name:
    return path.with_name(_joined(path.stem, end))


def _joined(stem: str, end: str) -> str:
    """A name, its stem cut where the whole would be too long for a file system."""
    room = _LONGEST - len(os.fsencode(end))
    return os.fsencode(stem)[:room].decode("utf-8", "ignore") + end if len(os.fsencode(stem)) > room else stem + end
