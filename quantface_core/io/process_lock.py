"""One process at a time, by a lock file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from ..errors import UsageError


@contextmanager
def only_process(lock: Path, refusal: str) -> Iterator[None]:
    """While it lasts no other process is within, by a lock file; the system lets them in when this one ends, however
    it does. Raises UsageError with the `refusal` where another is.
    """
    held = FileLock(lock, timeout=0, thread_local=False)
    with ExitStack() as stack:
        try:
            with suppress(NotImplementedError):  # by a file system that has no locks
                stack.enter_context(held)
        except TimeoutError:
            raise UsageError(refusal) from None
        yield
