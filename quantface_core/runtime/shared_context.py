"""A setting that is global to the process, changed for as long as any thread needs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any


class SharedContext:
    """A context manager that threads share: the first enters what `fresh` returns, and the last to leave exits it.

    By itself such a one would leave the setting changed for good where threads enter and leave it in turn.
    """

    def __init__(self, fresh: Callable[[], AbstractContextManager[Any]]) -> None:
        self._fresh, self._lock, self._within = fresh, Lock(), 0
        self._entered = fresh()

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._entered = self._fresh()
                self._entered.__enter__()
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._entered.__exit__(None, None, None)
