"""Allow one process at a time, through a lock file."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from ..errors import UsageError

_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK}


@contextmanager
def only_process(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file exclusively inside the context. Raises UsageError with the `refusal` when another process
    holds it, and OSError.
    """

    def refuse() -> None:
        raise UsageError(refusal)

    with one_at_a_time(lock, refuse):
        yield


@contextmanager
def one_at_a_time(lock: Path, when_held: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file exclusively inside the context; the system releases it when this process ends, however it ends.

    When another process holds it, `when_held` is called, and then, unless it raised, the lock is waited for. A file
    system without locks (some network mounts) is not guarded. Raises OSError for a lock file that cannot be created.
    """
    held = FileLock(lock, thread_local=False)
    try:
        try:
            _acquire(held, timeout=0)
        except TimeoutError:
            lock.open("a").close()  # raises where nothing can be written, which filelock 3 on Windows takes for held
            when_held()
            _acquire(held, timeout=-1)
        yield
    finally:
        held.release()


def _acquire(lock: FileLock, timeout: float) -> None:
    """Acquire the lock, where its file system has locks. Raises TimeoutError, OSError."""
    try:
        lock.acquire(timeout)
    except NotImplementedError:  # filelock's word for ENOSYS
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
