"""What identifies a file's content."""

from __future__ import annotations

import hashlib
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
