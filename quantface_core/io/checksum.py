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
    """`sha256` of a file that is asked for again and again: read once, until its size or a time of it changes.

    Raises ModelError when it cannot be read.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ModelError(f"{path}: cannot read ({error.strerror})") from error
    # The change time too: a copy may bring another file's size and modification time.
    return _sha256_of(path.resolve(), found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=64)
def _sha256_of(path: Path, *_: int) -> str:
    return sha256(path)
