"""What identifies a file's content."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from ..errors import ModelError


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file. Raises ModelError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"{path}: cannot read ({error.strerror})") from error
    return digest.hexdigest()


def known_sha256(path: Path) -> str:
    """`sha256` of a file that is asked for again and again: read once, until it is another, by size and times.

    Raises ModelError when it cannot be read.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ModelError(f"{path}: cannot read ({error.strerror})") from error
    # A copy may bring another file's size and modification time: then its number, or the change time, is another.
    # On Windows, whose files tell when they were made instead, one that was written over in place is not noticed.
    return _sha256_of(path.resolve(), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@lru_cache(maxsize=64)
def _sha256_of(path: Path, *_: int) -> str:
    return sha256(path)
