"""How many threads compute, and how they wait for each other: spinning for a moment, so that a machine with other work
does not lose its time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# GNU's OpenMP (torch's on Linux) would spin for some milliseconds, Intel's and LLVM's (Windows, macOS) for 200 of them.
# No number is free on an idle machine and quick on a busy one; this is the least of both: benchmarks/waiting.py.
_SETTINGS = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}
_ALL = (*_SETTINGS, "OMP_WAIT_POLICY")
_PASSIVE = {**_SETTINGS, "GOMP_SPINCOUNT": "0"}


def spin_briefly() -> None:
    """Choose a short wait for this process and those it starts, unless somebody chose.

    The libraries read it when torch loads; where it is loaded already, only processes started later have it.
    """
    if not any(name in os.environ for name in _ALL):
        os.environ.update(_SETTINGS)


def wait_passively() -> None:
    """Not to spin at all, in place of `spin_briefly`: for photos side by side, where another one can use the time."""
    if {name: os.environ[name] for name in _ALL if name in os.environ} in ({}, _SETTINGS):
        os.environ.update(_PASSIVE)


@contextmanager
def opencv_threads(most: int) -> Iterator[None]:
    """While it lasts OpenCV computes by so many threads at most. They are the whole process's, in every one of its
    threads."""
    import cv2

    usual = cv2.getNumThreads()
    cv2.setNumThreads(min(usual, most))
    try:
        yield
    finally:
        cv2.setNumThreads(usual)


def opencv_side_by_side(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """The items' results in their order, several computed at once, each by one thread: as many as OpenCV may use, and
    the same results with any number."""
    import cv2

    threads = max(1, min(cv2.getNumThreads(), os.cpu_count() or 1))  # macOS' own threads count as hundreds
    with opencv_threads(1), ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, items)


def compute_by(threads: int) -> None:
    """From now on this process computes by so many threads of the processor, in torch and in OpenCV."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
