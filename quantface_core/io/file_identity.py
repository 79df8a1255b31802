"""Tell whether two paths name the same file."""

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


def real_path(path: Path) -> Path:
    """A path, whether it exists or not, with all links resolved."""
    return Path(os.path.realpath(path))  # unlike Path.resolve, it does not raise on circular links
