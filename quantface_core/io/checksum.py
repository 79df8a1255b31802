"""SHA-256 checksums of files."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from ..errors import ModelError
from .file_identity import file_version


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal. Raises ModelError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"{path}: cannot read ({error.strerror})") from error
    return digest.hexdigest()


def known_sha256(path: Path) -> str:
    """`sha256`, cached: a file is read again only when its size, times or inode have changed.

    Raises ModelError when it cannot be read.
    """
    try:
        version = file_version(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot read ({error.strerror})") from error
    return _sha256_of(path.resolve(), version)


@lru_cache(maxsize=64)
def _sha256_of(path: Path, _: tuple[int, ...]) -> str:
    return sha256(path)
