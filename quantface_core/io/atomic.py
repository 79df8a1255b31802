"""Write files so that they are whole or not there."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UsageError, WriteError

_SUFFIX = 32  # characters of a suffix that are kept; more is no suffix but a name with a dot in it
_MASK = os.umask(0)  # asked for once: to ask, it is set, and meanwhile other threads' files would be everybody's
os.umask(_MASK)


def check_writable(path: Path, option: str) -> None:
    """Raise UsageError where a file cannot be written, before the work that it is to hold."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{option} {str(path)[:80]}...: a name too long for a file: shorten it") from None
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder: name a file")
    folder = _real(path).parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"{option} {path}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: {folder} may not be written to")


def file_identity(path: Path) -> Hashable:
    """What all names of one file have in common: through links and mounts, and on disks that ignore case."""
    try:
        found = path.stat()
    except OSError:  # no such file yet
        return _real(path)
    return (found.st_dev, found.st_ino) if found.st_ino else _real(path)


def check_report(report: Path | None, spared: Iterable[Path | None], option: str = "--json") -> None:
    """Raise UsageError where a report cannot be written, or would overwrite what the work reads or makes."""
    if report is None:
        return
    check_writable(report, option)
    if file_identity(report) in {file_identity(path) for path in spared if path is not None}:
        raise UsageError(f"{option} {report} would overwrite what is read or made here: choose another name")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary name beside `target`; on success it becomes `target`, on any failure it is removed.

    A target that is a link stays one: the file that it leads to is written. One that is there keeps its permissions.
    The temporary name keeps the suffix, because writers choose their format by it, and nothing else of the
    name, which may be as long as names can be. Interrupts count as failures. Raises WriteError, also for an
    error of the file system that writing raised.
    """
    try:
        real = _real(target)
        real.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".quantface-", suffix=target.suffix[-_SUFFIX:], dir=real.parent)
        os.close(handle)
        with _removed_on_failure(Path(name)) as temporary:
            yield temporary
            # mkstemp makes private files; a new result gets what any newly created file would have.
            temporary.chmod(real.stat().st_mode & 0o777 if real.exists() else 0o666 & ~_MASK)
            temporary.replace(real)
    except OSError as error:
        raise WriteError(f"{target}: cannot write ({error.strerror or error})") from error


def _real(path: Path) -> Path:
    """Where a file is, behind all links."""
    return Path(os.path.realpath(path))  # unlike Path's, it does not raise for links that lead in a circle


@contextmanager
def _removed_on_failure(temporary: Path) -> Iterator[Path]:
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the file system refuses while it lasts is a WriteError that names `path`."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"{path}: cannot write ({error.strerror})") from None
