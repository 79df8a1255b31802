"""Time a call on this machine, to the end of the GPU's work where there is one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def median(work: Callable[[], object], runs: int) -> float:
    """Median seconds of a call over `runs`, after one to warm up."""
    work()
    return statistics.median(seconds(work) for _ in range(runs))


def wait() -> None:
    """Wait until the GPU is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
