"""The process's memory: whether freed activations stay in it, and whether it ran out.

By default the C library returns every large block to the system as soon as it is freed, and page-faults it back in
when it is needed again: at 512x512x128 a group norm then takes five times as long as its arithmetic, and a low-bit
convolution half as long again. Where the allocator has a setting for it (glibc), freed blocks are kept.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt
_KEPT = (1 << 31) - 1  # bytes
_USUAL = 32 << 20  # bytes: what glibc's dynamic threshold would have grown to with blocks of this size

_OUT_OF_MEMORY = (  # in lower case, of errors whose class does not say so
    "out of memory",
    "alloc_failed",  # cuBLAS and cuDNN
    "allocation_failed",  # cuDNN 9
)
_OUT_OF_MAIN_MEMORY = (  # the same of the computer's own memory
    "you tried to allocate",  # torch, with other words before it on Linux and on Windows
    "bad_alloc",  # C++
    "insufficient memory",  # OpenCV
)

_lock = threading.Lock()
_keeping = _releasing = 0  # how many open contexts ask for each


@cache
def _glibc() -> Any:
    """The C library when it is glibc, else None."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    return ctypes.CDLL(None)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Inside, freed blocks stay in the process; on exit they are returned to the system. No effect without glibc."""
    _ask(keep=1)
    try:
        yield
    finally:
        _ask(keep=-1)


@contextmanager
def released_memory() -> Iterator[None]:
    """Inside, large freed blocks are returned to the system at once, even within `kept_memory`.

    For work with blocks of many sizes, such as backward passes and a layer's search, where kept memory fragments: a
    block that fits into no free hole is allocated in addition, which doubles the memory at Stable Diffusion's size.
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


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or one that caused it, says that memory ran out, on any device.

    By its text, where no class says so: Apple's GPUs, CUDA's driver and libraries, and torch on CPUs raise
    RuntimeError.
    """
    return _exhausted(error) is not None


def explain_out_of_memory(error: BaseException) -> str:
    """Which memory ran out, by an error for which `is_out_of_memory` is true, and what to do: one line for the user."""
    if _exhausted(error) == "GPU":
        return "out of memory on the GPU: use device cpu or a smaller model"
    return "out of memory: close other programs, or use a smaller photo or model (to restore, also low_memory)"


def _exhausted(error: BaseException | None) -> Literal["GPU", "computer", None]:
    """Which memory ran out; None = neither."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, MemoryError) or any(known in text for known in _OUT_OF_MAIN_MEMORY):
            return "computer"
        if type(error).__name__ == "OutOfMemoryError" or any(known in text for known in _OUT_OF_MEMORY):
            return "GPU"
        error = error.__cause__
    return None
