"""Tell whether two paths name the same file, and whether a file is as it was."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path


def file_identity(path: Path) -> Hashable:
    """A value equal for all names of one file: through links and mounts, and on case-insensitive disks."""
    try:
        found = path.stat()
    except OSError:  # no such file yet
        return real_path(path)
    return (found.st_dev, found.st_ino) if found.st_ino else real_path(path)


def file_version(path: Path) -> tuple[int, ...]:
    """A value that changes with a file's content, which is not read: its size, times and inode. Raises OSError."""
    found = path.stat()
    # A copy may keep the size and modification time of the file it replaces; its inode or change time then differs.
    # On Windows st_ctime is the creation time, so a file overwritten in place with both kept goes unnoticed.
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def real_path(path: Path) -> Path:
    """A path, whether it exists or not, with all links resolved."""
    return Path(os.path.realpath(path))  # unlike Path.resolve, it does not raise on circular links
