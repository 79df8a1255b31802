"""Files in any store that pyarrow reaches: local disks, S3, Google Cloud Storage, Azure, HDFS, and fsspec's."""

from __future__ import annotations

import os
import posixpath
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from urllib.request import url2pathname

from ..errors import ImageError, UsageError, WriteError, one_line

_WHOLE_AT_ONCE = {"s3", "gcs", "abfs", "memory"}  # stores where a file appears once it is closed
_SCHEME = "://"
TABLES = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json"}  # suffix -> pyarrow's format


@dataclass(frozen=True)
class Stamp:
    """A quick check that a file is unchanged."""

    size: int  # bytes
    mtime_ns: int  # last modification, since 1970; 0 = its store does not say


GONE = Stamp(0, 0)


@dataclass(frozen=True)
class Place:
    """A file or folder in a store."""

    store: Any  # pyarrow.fs.FileSystem
    path: str  # as the store writes it
    shown: str  # as the user writes it

    def __truediv__(self, name: str) -> Place:
        """The place below this one at `name`, whose parts are joined by slashes."""
        return Place(self.store, posixpath.join(self.path, name), f"{self.shown.rstrip('/')}/{name}")

    @property
    def is_local(self) -> bool:
        """Whether it is on a local disk."""
        return bool(self.store.type_name == "local")

    @property
    def real_path(self) -> str:
        """The canonical path, the same however it is written: without `..`, and on a local disk with links resolved."""
        return Path(os.path.realpath(self.path)).as_posix() if self.is_local else _normalized(self.path)


def is_uri(name: str | Path) -> bool:
    """Whether a name says which store it is in."""
    return str(name).find(_SCHEME) > 1  # a single letter is a drive of Windows


def locate(name: str, store: Any = None) -> Place:
    """Return the place of a URI or local path, or of a path within `store`, a pyarrow file system.

    Raises UsageError for a store that is unknown or cannot be reached.
    """
    if store is not None:
        return Place(store, _normalized(name), name)
    if not is_uri(name):
        return Place(_local(), Path(name).absolute().as_posix(), name)
    shown, _, query = name.partition("?")
    scheme, _, rest = shown.partition(_SCHEME)
    host, _, path = rest.partition("/")
    if scheme == "file" and not host:  # whose paths begin with a drive on Windows, not with a slash
        return Place(_local(), _normalized(Path(url2pathname(f"/{path}")).as_posix()), shown)
    try:
        found, root = _reached(f"{scheme}{_SCHEME}{host}/{'?' if query else ''}{query}")
    except _UnreachedError as error:
        raise UsageError(f"{name}: no store that can be reached ({error})") from None
    return Place(found, _normalized(posixpath.join(root, unquote(path))) or "/", shown)


def _normalized(path: str) -> str:
    return posixpath.normpath(path) if path else ""


class _UnreachedError(Exception):
    """Why a store cannot be reached."""


@cache
def _reached(root: str) -> tuple[Any, str]:
    """A root's file system and its path there; cached, because some ask over the network where a bucket is."""
    from pyarrow import ArrowException, fs

    try:
        store, path = fs.FileSystem.from_uri(root)
    except (ArrowException, OSError, ValueError, ImportError) as error:
        raise _UnreachedError(one_line(error)) from None
    return store, path


def _local() -> Any:
    from pyarrow import fs

    return fs.LocalFileSystem()


def _store_errors() -> tuple[type[Exception], ...]:
    """What stores raise; for an invalid name, ArrowException is not an OSError."""
    from pyarrow import ArrowException

    return ArrowException, OSError


def stamp(place: Place) -> Stamp:
    """A file's stamp; GONE where there is none or its store does not answer."""
    try:
        return _stamp(place.store.get_file_info(place.path))
    except _store_errors():
        return GONE


def is_folder(place: Place) -> bool:
    """Whether a place is a folder. Raises UsageError when the store does not answer."""
    from pyarrow import fs

    return bool(_file_info(place, place.path).type == fs.FileType.Directory)


def is_there(place: Place) -> bool:
    """Whether a file or folder is there. Raises UsageError when the store does not answer."""
    from pyarrow import fs

    return bool(_file_info(place, place.path).type != fs.FileType.NotFound)


def files_below(place: Place, recursive: bool) -> list[tuple[str, Stamp | None]]:
    """Return (name, stamp) of what is below a folder, sorted; a stamp of None marks a subfolder that is not entered.

    Raises UsageError when the store does not answer.
    """
    from pyarrow import fs

    selector = fs.FileSelector(place.path, recursive=recursive, allow_not_found=True)
    found = []
    for info in _file_info(place, selector):
        name = posixpath.relpath(info.path, place.path)
        if info.type == fs.FileType.File or not recursive:
            found.append((name, _stamp(info) if info.type == fs.FileType.File else None))
    return sorted(found, key=lambda pair: pair[0])


def read(place: Place) -> bytes:
    """Read a file's content. Raises ImageError naming it."""
    try:
        with place.store.open_input_stream(place.path) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        raise ImageError(f"{place.shown}: no such file") from None
    except _store_errors() as error:
        raise ImageError(f"{place.shown}: cannot read ({one_line(error)})") from None


def write(place: Place, content: bytes) -> None:
    """Write a file atomically, creating its folder. Raises WriteError naming it."""
    store, folder = place.store, posixpath.dirname(place.path)
    at_once = not _WHOLE_AT_ONCE.isdisjoint(_protocols(store))
    draft = place.path if at_once else posixpath.join(folder, f".quantface-{secrets.token_hex(8)}")
    try:
        if not at_once:
            store.create_dir(folder, recursive=True)
        with store.open_output_stream(draft) as stream:
            stream.write(content)
        if not at_once:
            store.move(draft, place.path)
    except _store_errors() as error:
        if not at_once:
            with suppress(*_store_errors()):
                store.delete_file(draft)
        raise WriteError(f"{place.shown}: cannot write ({one_line(error)})") from None


def _protocols(store: Any) -> set[str]:
    """A store's protocol names; one of fsspec's may have several."""
    found = getattr(getattr(getattr(store, "handler", None), "fs", None), "protocol", store.type_name)
    return {found} if isinstance(found, str) else set(found)


def read_column(place: Place, column: str) -> list[str]:
    """Return a text column of a table (Parquet, CSV or JSON lines), without empty values. Raises UsageError."""
    from pyarrow import dataset, types

    if stamp(place) == GONE:
        raise UsageError(f"{place.shown}: no such table")
    format = TABLES[posixpath.splitext(place.path)[1].lower()]
    try:
        table = dataset.dataset(place.path, filesystem=place.store, format=format)
        if column not in table.schema.names:
            raise UsageError(f"{place.shown} has no column {column!r}: it has {', '.join(table.schema.names)}")
        kind = table.schema.field(column).type
        if not (types.is_string(kind) or types.is_large_string(kind)):
            raise UsageError(f"{place.shown}: its column {column!r} is not text but {kind}")
        return [text for text in table.to_table(columns=[column])[column].to_pylist() if text]
    except _store_errors() as error:
        raise UsageError(f"{place.shown}: not a readable table ({one_line(error)})") from None


def _file_info(place: Place, what: Any) -> Any:
    try:
        return place.store.get_file_info(what)
    except _store_errors() as error:
        raise UsageError(f"{place.shown}: cannot look into it ({one_line(error)})") from None


def _stamp(info: Any) -> Stamp:
    return Stamp(info.size or 0, info.mtime_ns or 0) if info.is_file else GONE


def relative_names(paths: Iterable[str], folder: str) -> list[str]:
    """Return normalised paths relative to a folder; those outside it in full, without the leading slash."""
    start = _normalized(folder).rstrip("/") + "/"
    return [
        path[len(start) :] if path.startswith(start) else path.lstrip("/").replace(":", "")
        for path in map(_normalized, paths)
    ]


def suffix(name: str) -> str:
    """The suffix of a path or URI, lower-case, with its dot."""
    return os.path.splitext(name.split("?")[0] if is_uri(name) else name)[1].lower()
