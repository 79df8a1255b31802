"""Write files atomically: complete or not at all."""

from __future__ import annotations

import os
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import WriteError
from .file_identity import real_path
from .streams import is_stream, write_stream

_SUFFIX = 32  # characters of a suffix that are kept; a longer one is a name with a dot in it
_TEMPORARY = re.compile(r"\.quantface-[0-9a-f]{16}(\..*)?")
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between attempts to move a file
_STALE = 24 * 60 * 60  # seconds since a temporary file was last written to, after which no process still writes it


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError raised inside the context into a WriteError that names `path`."""
    try:
        yield
    except OSError as error:
        # What Windows says of a folder that is protected it says of a file that is open, too.
        ambiguous = sys.platform == "win32" and isinstance(error, PermissionError)
        advice = ": close it in other programs, or choose a place that you may write to" if ambiguous else ""
        raise WriteError(f"{path}: cannot write ({error.strerror or error}){advice}") from error


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary name beside `target`; on success it becomes `target`, on any failure it is removed.

    A symbolic link stays one: the file it points to is written. An existing file keeps its permissions. The temporary
    name keeps the suffix, because writers choose their format by it, but nothing else of the name, which may be as long
    as names can be. Interrupts count as failures. A device, pipe or FIFO stays what it is: on success the content is
    written to it. Raises WriteError, also for an OSError raised inside the context.
    """
    suffix = target.suffix[-_SUFFIX:]
    with writing(target), (_streamed if is_stream(target) else _replaced)(target, suffix) as temporary:
        yield temporary


@contextmanager
def _replaced(target: Path, suffix: str) -> Iterator[Path]:
    real = real_path(target)
    real.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(real, suffix) as temporary:
        usual = temporary.stat().st_mode  # some writers, such as safetensors, replace it by a private file
        yield temporary
        # On Windows a file is read-only or not, and a read-only one can be neither moved into place nor removed.
        if sys.platform != "win32":
            temporary.chmod((real.stat().st_mode if real.exists() else usual) & 0o777)
        move_into_place(temporary, real)


@contextmanager
def _streamed(target: Path, suffix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="quantface-") as folder:
        temporary = Path(folder) / f"content{suffix}"
        temporary.touch()
        yield temporary
        write_stream(target, temporary)


@contextmanager
def _temporary(real: Path, suffix: str) -> Iterator[Path]:
    """A new file beside `real`, removed on any failure; private where `real` exists, whose permissions it may get."""
    temporary = real.with_name(f".quantface-{secrets.token_hex(8)}{suffix}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600 if real.exists() else 0o666))
    try:
        yield temporary
    except BaseException:
        with suppress(OSError):  # what went wrong says more than that Windows, say, removes no open file
            temporary.unlink(missing_ok=True)
        raise


def move_into_place(source: Path, target: Path) -> None:
    """Move a file to `target` on the same disk, in place of what is there. Raises OSError.

    On Windows it is tried for some time: virus scanners and cloud folders open every new file for a moment, and an open
    file can be neither moved nor replaced.
    """
    for pause in _PAUSES if sys.platform == "win32" else ():
        try:
            source.replace(target)
        except PermissionError:
            time.sleep(pause)
        else:
            return
    source.replace(target)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8. Raises WriteError."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")


def remove_stale(target: Path) -> None:
    """Remove the temporary files that killed processes left beside `target`, which nobody has written to for a day."""
    for path in real_path(target).parent.glob(".quantface-*"):
        with suppress(OSError):  # another user's, or removed meanwhile
            if _TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime > _STALE:
                path.unlink()
