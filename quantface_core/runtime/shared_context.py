"""A setting that is global to the process, changed for as long as any thread needs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any


class SharedContext:
    """A context manager that many threads may be in: the first to enter enters a new one of `make`, the last to leave
    leaves it.

    By itself such a one restores what it found, and so leaves the setting changed for good where threads enter and
    leave in turn.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make, self._lock, self._within = make, Lock(), 0
        self._entered = make()

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._entered = self._make()
                self._entered.__enter__()
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._entered.__exit__(None, None, None)
