"""How many threads compute, and how they wait for each other: with a short spin, so that other work on the machine is
not starved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# By default GNU's OpenMP (torch's on Linux) spins for a few milliseconds, Intel's and LLVM's (Windows, macOS) for 200.
# No setting is both free on an idle machine and fast on a busy one; this is the best compromise: benchmarks/waiting.py.
_SETTINGS = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}
_ALL = (*_SETTINGS, "OMP_WAIT_POLICY")
_PASSIVE = {**_SETTINGS, "GOMP_SPINCOUNT": "0"}


def spin_briefly() -> None:
    """Set a short spin for the OpenMP threads of this process and its children, unless the environment sets one.

    OpenMP reads the variables when torch is loaded; if it already is, they only affect processes started later.
    """
    if not any(name in os.environ for name in _ALL):
        os.environ.update(_SETTINGS)


def wait_passively() -> None:
    """Do not spin at all, instead of `spin_briefly`: for photos restored in parallel, where others can use the CPU."""
    if {name: os.environ[name] for name in _ALL if name in os.environ} in ({}, _SETTINGS):
        os.environ.update(_PASSIVE)


@contextmanager
def opencv_threads(most: int) -> Iterator[None]:
    """Limit OpenCV to at most this many threads inside. The setting is global to the process."""
    import cv2

    usual = cv2.getNumThreads()
    cv2.setNumThreads(min(usual, most))
    try:
        yield
    finally:
        cv2.setNumThreads(usual)


def opencv_side_by_side(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield `work(item)` in order, computing several items in parallel, as many as OpenCV has threads. Each item uses
    one thread, so results do not depend on the number of threads."""
    import cv2

    threads = max(1, min(cv2.getNumThreads(), os.cpu_count() or 1))  # macOS' GCD backend reports hundreds
    with opencv_threads(1), ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, items)


def compute_by(threads: int) -> None:
    """Set the number of CPU threads that torch and OpenCV use in this process."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
