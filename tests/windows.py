"""What Windows refuses and Linux does not: to remove a file that is open."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

_OPEN = Path("/proc/self/fd")


def refuse_open_files(patch: pytest.MonkeyPatch) -> None:
    """Have `Path.unlink` raise for a file that this process has open. Skips the test where no system lists those."""
    if not _OPEN.exists():
        pytest.skip("needs Linux's list of open files")
    unlink = Path.unlink

    def unlink_there(path: Path, missing_ok: bool = False) -> None:
        if is_open(path):
            raise PermissionError(13, "The process cannot access the file", str(path))
        unlink(path, missing_ok)

    patch.setattr(Path, "unlink", unlink_there)


def is_open(path: Path) -> bool:
    """Whether this process has a file open, on Linux."""
    if not path.exists():
        return False
    for name in os.listdir(_OPEN):
        with suppress(OSError):  # the one that listed them
            if os.path.samestat(path.stat(), os.fstat(int(name))):
                return True
    return False
