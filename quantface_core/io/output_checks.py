"""Refuse a file that cannot be written before the work that fills it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import UsageError
from .file_identity import real_path
from .streams import is_stream, is_stream_writable


def check_writable(path: Path, name: str) -> None:
    """Raise UsageError when `path` cannot be written; the message begins with the `name` of the setting it is from."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{name} {str(path)[:80]}...: the name is too long for a file: shorten it") from None
    if path.is_dir():
        raise UsageError(f"{name} {path} is a folder: name a file")
    if is_stream(path):
        if not is_stream_writable(path):
            raise UsageError(f"{name} {path} is not writable")
        return
    folder = real_path(path).parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"{name} {path}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{name} {path}: {folder} is not writable")
