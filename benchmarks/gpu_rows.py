"""Rows of `gpu.py`: faces of one restorer on a GPU, launched kernel by kernel and as captured graphs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from quantface_core import OneStepRestorer
from quantface_core.nn.graphs import Graphs

MODES = ("eager", "captured")
_COMPARED = 4  # different faces whose captured images are compared with eager ones


@dataclass(frozen=True)
class Row:
    """One precision, mode and number of faces; times in milliseconds per face, memory in MB."""

    model: str
    bits: str
    mode: str
    faces: int
    wall: float
    busy: float
    kernels: float  # per face
    peak: float
    rest: float
    graphs: bool  # whether any were captured: else it ran eagerly after all
    difference: float = 0.0  # largest between captured and eager images of several faces, in [-1, 1]
    failure: str = ""  # why capturing failed


class Meter(Protocol):
    """What is measured on a device."""

    def seconds(self, work: Callable[[], object]) -> float:
        """Wall seconds of one call."""

    def busy(self, work: Callable[[], object]) -> tuple[float, int]:
        """Seconds that the device works in one call, and kernels that it starts."""

    def memory(self, work: Callable[[], object]) -> tuple[float, float]:
        """Bytes reserved at most during one call, and after it."""


class CudaMeter:
    def seconds(self, work: Callable[[], object]) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    def busy(self, work: Callable[[], object]) -> tuple[float, int]:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as run:
            work()
            torch.cuda.synchronize()
        events = [event for event in run.events() if event.device_type.name == "CUDA"]
        return sum(event.device_time for event in events) / 1e6, len(events)

    def memory(self, work: Callable[[], object]) -> tuple[float, float]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        # Reserved, not allocated: some allocators leave graphs' memory out of what torch counts as allocated.
        peak = torch.cuda.max_memory_reserved()
        torch.cuda.empty_cache()
        return float(peak), float(torch.cuda.memory_reserved())


@torch.inference_mode()
def measure(restorer: OneStepRestorer, name: tuple[str, str], faces: int, meter: Meter, runs: int) -> Iterator[Row]:
    """Rows of a restorer in both modes, as they are measured; captured, faces run one after the other."""
    size, made = restorer.image_size, restorer.graphs
    pictures = torch.rand(max(faces, _COMPARED), 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pictures = pictures.to(restorer.device)
    images: dict[str, Tensor] = {}
    try:
        for mode in MODES:
            made.drop()
            restorer.graphs = made if mode == "captured" else Graphs(lambda _: None)
            parts = pictures[:faces].split(1 if mode == "captured" else faces)

            def work(parts: tuple[Tensor, ...] = parts) -> None:
                for batch in parts:
                    restorer(batch)

            for _ in range(3):  # kernels are compiled, graphs captured
                work()
            images[mode] = _one_by_one(restorer, pictures[:_COMPARED])
            wall = statistics.median(meter.seconds(work) for _ in range(runs))
            (busy, kernels), (peak, rest) = meter.busy(work), meter.memory(work)
            yield Row(
                *name, mode, faces, 1e3 * wall / faces, 1e3 * busy / faces, kernels / faces, peak / 1e6, rest / 1e6,
                restorer.graphs.held, float((images[mode] - images["eager"]).abs().max()),
                Graphs.failure if mode == "captured" else "",
            )  # fmt: skip
    finally:
        restorer.graphs = made


def _one_by_one(restorer: OneStepRestorer, pictures: Tensor) -> Tensor:
    """Images of faces [B, 3, H, W] that run one after the other, on the CPU."""
    return torch.cat([restorer(picture[None]).float().cpu() for picture in pictures])
