"""Keep the memory that a picture's maps free, while pictures are made.

The C library returns every large block to the system when it is freed and fetches it page by page when it is
needed again: at 512x512x128 a group norm then takes five times as long as its arithmetic, and a low-bit
convolution half as long again. Where the allocator can be told so (glibc), it keeps them.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt
_KEPT = (1 << 31) - 1  # bytes
_USUAL = 32 << 20  # bytes: what the allocator itself would have settled at among blocks of this size

_lock = threading.Lock()
_keeping = _releasing = 0  # how many blocks of code ask for which


@cache
def _glibc() -> Any:
    """The C library when it is glibc, else None."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    return ctypes.CDLL(None)


@contextmanager
def kept_memory() -> Iterator[None]:
    """While it lasts, freed blocks stay with this process; at its end they are given back to the system."""
    _ask(keep=1)
    try:
        yield
    finally:
        _ask(keep=-1)


@contextmanager
def released_memory() -> Iterator[None]:
    """While it lasts, large freed blocks go back at once, inside `kept_memory` too.

    For work whose blocks are of many sizes, as backward passes and a layer's search are: what fits into no hole that
    others left is held beside it, at Stable Diffusion's size as much again.
    """
    _ask(release=1)
    try:
        yield
    finally:
        _ask(release=-1)


def _ask(keep: int = 0, release: int = 0) -> None:
    global _keeping, _releasing
    if (library := _glibc()) is None:
        return
    with _lock:
        before = _keeping > 0 and not _releasing
        _keeping, _releasing = _keeping + keep, _releasing + release
        after = _keeping > 0 and not _releasing
        if after != before:
            _set(library, _KEPT if after else _USUAL)
        if before and not after:
            library.malloc_trim(0)


def _set(library: Any, threshold: int) -> None:
    library.mallopt(_MMAP_THRESHOLD, threshold)
    library.mallopt(_TRIM_THRESHOLD, threshold)
