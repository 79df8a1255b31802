"""CUDA graphs captured by hand, in one memory pool.

Not by `torch.compile`: its graphs do not work with the allocator that ComfyUI chooses, and it takes minutes before the
first image.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import torch

_LEAST = 11 << 29  # bytes of device memory (a 6 GB card reports 5.6 to 6 GiB): less has no room for maps that stay


class Recorder(Protocol):
    """Captures graphs: `CudaRecorder`, or a stand-in."""

    def capture(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Run `work`; return its result, and a function that recomputes it into the same tensors."""

    def follow(self) -> None:
        """Start a face: what the last one left in those tensors is done with before this one overwrites it."""


class CudaRecorder:
    """Captures CUDA graphs that share one memory pool: a part is done before the next one starts."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool, self._side = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
        self._last: torch.cuda.Stream | None = None  # that a face ran on

    def follow(self) -> None:
        stream = torch.cuda.current_stream(self._device)
        if self._last is not None and self._last != stream:  # another stream's work starts while this one's runs
            stream.wait_stream(self._last)
        self._last = stream

    def capture(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        with torch.cuda.device(self._device):  # streams belong to one device, and another may be current
            self._warm_up(work)
            graph = torch.cuda.CUDAGraph()
            made = self._record(graph, work)
            graph.replay()
        return made, graph.replay

    def _warm_up(self, work: Callable[[], Any]) -> None:
        """Do one-time work outside the graph; then free the cached memory: the graph allocates its own."""
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            work()
        torch.cuda.current_stream().wait_stream(self._side)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    def _record(self, graph: torch.cuda.CUDAGraph, work: Callable[[], Any]) -> Any:
        # Not `torch.cuda.graph`, which leaves the capture's stream current where ending the capture fails.
        with torch.cuda.stream(self._side):
            # Other threads may go on using the device meanwhile.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                made = work()
            except BaseException:
                with suppress(RuntimeError):  # which would hide the error that made the capture fail
                    self._end(graph)
                raise
            self._end(graph)
            return made

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        try:
            graph.capture_end()
        except RuntimeError:
            self._give_back_pool()
            raise

    def _give_back_pool(self) -> None:
        """Tell torch's allocator that the capture is over: else it would assume for good that it goes on."""
        device = torch.cuda.current_device()
        for name in ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool"):  # the second up to torch 2.5
            if end_allocation := getattr(torch._C, name, None):
                with suppress(RuntimeError, TypeError):  # torch 2.1 took the device alone
                    end_allocation(device, self._pool)
                    torch._C._cuda_releasePool(device, self._pool)


def cuda_recorder(device: torch.device) -> Recorder | None:
    """A recorder for a device; None where it has no CUDA graphs or less than 5.5 GiB, or QUANTFACE_GRAPHS is 0.

    None too while the current stream is already being captured.
    """
    if device.type != "cuda" or torch.version.hip is not None or os.environ.get("QUANTFACE_GRAPHS") == "0":
        return None
    if torch.cuda.is_current_stream_capturing() or torch.cuda.get_device_properties(device).total_memory < _LEAST:
        return None
    return CudaRecorder(device)
