"""Which photos of which stores a bulk run works on, and how each result is named."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import UsageError
from ..io.file_identity import file_identity
from ..io.photos import READABLE, WRITABLE
from ..io.stores import (
    TABLES,
    Place,
    Stamp,
    files_below,
    is_folder,
    is_uri,
    locate,
    read_column,
    relative_names,
    suffix,
)
from .jobs import FOLDERS, RESULTS, find_photos, is_picture, skipped_in_words
from .result_names import name_results, result_name

_NO_NAMES = ("", ".", "..")  # last parts of paths that name folders only


@dataclass(frozen=True)
class BulkPhoto:
    """One photo to restore, small enough to be sent by the million."""

    store: int  # index of its store in the plan
    path: str  # within the store
    shown: str  # as the user writes it
    stamp: Stamp | None  # None = not looked at yet
    name: str = ""  # of its result, relative to the output
    compare: str = ""  # of its comparison; empty = not asked for


@dataclass
class BulkPlan:
    """All photos of a bulk run, and where their results go."""

    output: Place  # a folder
    stores: list[Any] = field(default_factory=list)  # pyarrow file systems that photos are in
    photos: list[BulkPhoto] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # why -> how many files or folders

    def source(self, photo: BulkPhoto) -> Place:
        """Where a photo is."""
        return Place(self.stores[photo.store], photo.path, photo.shown)


_Found = Iterator[tuple[Place, str, Stamp | None]]  # a photo, its name below the output, its stamp


def plan_bulk(
    sources: Sequence[str],
    output: str,
    recursive: bool = False,
    compare: bool = False,
    column: str = "path",
    store: Any = None,
    suffixes: Sequence[str] = (),
) -> BulkPlan:
    """Find the photos that `sources` name: images, folders, and tables with a column of paths.

    Sources are URIs or local paths, or paths within `store`, a pyarrow file system. Results mirror each folder; those
    of a table keep their path relative to the table's own folder, or else their whole path. `suffixes` are as for
    `result_name`. Raises UsageError when there are none, a store cannot be reached, or a result would overwrite a
    source or lie outside the output.
    """
    plan = BulkPlan(locate(output, store))
    if suffix(output) in WRITABLE:
        raise UsageError(f"output {output} names a file: name a folder for many photos")
    wanted: list[PurePosixPath] = []
    seen = set[tuple[int, str]]()
    for argument in sources:
        is_empty, before = True, plan.skipped.copy()
        for place, name, stamp in _found(argument, store, recursive, column, plan):
            is_empty = False
            number = _number(plan.stores, place.store)
            if (key := (number, place.real_path)) not in seen:
                seen.add(key)
                plan.photos.append(BulkPhoto(number, place.path, place.shown, stamp))
                wanted.append(PurePosixPath(name).with_name(result_name(PurePosixPath(name), suffixes)))
        if is_empty:
            known = f"{', '.join(READABLE)}; tables: {', '.join(TABLES)}"
            raise UsageError(f"{argument}: no photos found ({skipped_in_words(plan.skipped - before) or known})")
    beside = [plan.stores[photo.store].equals(plan.output.store) for photo in plan.photos]
    own = {_identity(plan.source(photo)) for photo, near in zip(plan.photos, beside, strict=True) if near}
    named = []
    named_as = [PurePosixPath(photo.path) for photo in plan.photos]
    for photo, (target, side_by_side) in zip(plan.photos, name_results(named_as, wanted, compare), strict=True):
        if ".." in target.parts:
            raise UsageError(f"{photo.shown}: its result would lie outside {output}: give its path without ..")
        for path in (target, side_by_side):
            if path and _identity(plan.output / path.as_posix()) in own:
                raise UsageError(f"{plan.output.shown}/{path} would overwrite a source photo: choose another output")
        named.append(_named(photo, target, side_by_side))
    plan.photos = named
    return plan


def _named(photo: BulkPhoto, target: PurePosixPath, side_by_side: PurePosixPath | None) -> BulkPhoto:
    compare = side_by_side.as_posix() if side_by_side else ""
    return BulkPhoto(photo.store, photo.path, photo.shown, photo.stamp, target.as_posix(), compare)


def _identity(place: Place) -> Hashable:
    return file_identity(Path(place.path)) if place.is_local else place.real_path


def _found(argument: str, store: Any, recursive: bool, column: str, plan: BulkPlan) -> _Found:
    if suffix(argument) in TABLES:
        yield from _of_table(locate(argument, store), store, column, plan.skipped)
    elif store is None and not is_uri(argument):
        found = find_photos([argument], recursive, Path(plan.output.path) if plan.output.is_local else None)
        plan.skipped.update(found.skipped)
        for photo in found.photos:
            yield locate(str(photo)), (found.places[photo] / photo.name).as_posix(), None
    else:
        yield from _of_store(locate(argument, store), recursive, plan)


def _of_store(place: Place, recursive: bool, plan: BulkPlan) -> _Found:
    if not is_folder(place):
        yield place, posixpath.basename(place.path), None
        return
    results, skipped = _results_below(place, plan.output), plan.skipped
    for name, stamp in files_below(place, recursive):
        if any(part.startswith(".") for part in posixpath.dirname(name).split("/")):
            continue
        if recursive and f"{name}/".startswith(results):
            skipped[RESULTS] = 1
        elif stamp is None:
            skipped[FOLDERS] += 1
        elif is_picture(PurePosixPath(name), skipped):
            yield place / name, name, stamp


def _results_below(place: Place, output: Place) -> str:
    """The prefix, below a place, of names that are results; one that no name has where the output is not in it."""
    if not output.store.equals(place.store):
        return "../"
    return posixpath.relpath(output.real_path or ".", place.real_path or ".") + "/"


def _of_table(table: Place, store: Any, column: str, skipped: Counter[str]) -> _Found:
    folder = posixpath.dirname(table.path)
    for row in read_column(table, column):
        # On Windows the rows of a local table have its separators and drives, which paths of stores do not.
        written = None if is_uri(row) or not table.is_local else Path(row)
        text = written.as_posix() if written else row
        if is_uri(row) or text.startswith("/") or (written and written.is_absolute()):
            place = locate(text, store)
        else:
            place = Place(table.store, posixpath.normpath(posixpath.join(folder, text)), row)
        beside = folder if place.store.equals(table.store) else ""
        name = relative_names([place.path], beside)[0]
        # Not of `text`: a path has lost the slash or the dot at its end by which a row names a folder.
        if not name or posixpath.basename(row.replace(os.sep, "/")) in _NO_NAMES:
            skipped["rows of tables that name no file"] += 1
        else:
            yield place, name, None


def _number(stores: list[Any], store: Any) -> int:
    """The index of a store; a new one is appended."""
    for number, known in enumerate(stores):
        if known is store or known.equals(store):
            return number
    stores.append(store)
    return len(stores) - 1
