"""Devices, pipes and FIFOs: written to, never replaced."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_OUTPUT, _ERRORS = 1, 2  # descriptors of a process's standard streams


def is_stream(path: Path) -> bool:
    """Whether `path` is a device, pipe or FIFO, or the file that this process's own output goes to."""
    try:
        found = os.stat(path)
    except OSError:  # no such file yet
        return False
    is_replaceable = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    return not is_replaceable or _descriptor(path) is not None


def is_stream_writable(path: Path) -> bool:
    """Whether this process may write to a stream."""
    return _descriptor(path) is not None or os.access(path, os.W_OK)


def write_stream(path: Path, content: Path) -> None:
    """Copy the file `content` into a stream. Raises OSError."""
    with content.open("rb") as source, _opened(path) as stream:
        shutil.copyfileobj(source, stream)


def _opened(path: Path) -> BinaryIO:
    descriptor = _descriptor(path)
    if descriptor is None:
        return path.open("wb")
    # Opening a standard stream by its name fails for sockets, and would overwrite a file that it goes to.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return os.fdopen(os.dup(descriptor), "wb")


def _descriptor(path: Path) -> int | None:
    """The standard stream that `path` is; None where it is neither."""
    found = os.stat(path)
    if not found.st_ino:  # on Windows no device, console or pipe has a number: all of them would be the same
        return None
    for descriptor in (_OUTPUT, _ERRORS):
        with suppress(OSError):  # closed
            if os.path.samestat(found, os.fstat(descriptor)):
                return descriptor
    return None
