"""Parts of a model as CUDA graphs: four launches per face instead of one for each of its 1400 kernels.

A shape runs eagerly the first time, is captured the second and replayed from then on: a single photo would gain
nothing. Where capture fails, for now or for good, everything runs eagerly. A graph holds the addresses of weights and
of tensors derived from them, so it is dropped when these are replaced.

Captured by hand, not by `torch.compile`: its graphs do not work with the allocator that ComfyUI chooses, and it takes
minutes before the first image.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..runtime.memory import is_out_of_memory
from .autocast import autocasts
from .constant_cache import constant_caches
from .qlayer import QuantLayer

_allowed = ContextVar("graphs_allowed", default=True)
_LEAST = 6 << 30  # bytes of device memory, below which there is no room for feature maps that stay allocated
Run = Callable[..., Any]
"""Called with a part's name, its function and that function's arguments."""


@contextmanager
def without_graphs() -> Iterator[None]:
    """Within this context, every part runs eagerly: a replay runs no Python, neither hooks nor a layer's own code."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


class Recorder(Protocol):
    """Captures graphs: `CudaRecorder`, or a stand-in."""

    def capture(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Run `work`; return its result, and a function that recomputes it into the same tensors."""


class CudaRecorder:
    """Captures CUDA graphs that share one memory pool: a part is done before the next one starts."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool, self._side = torch.cuda.graph_pool_handle(), torch.cuda.Stream()

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
                return work()
            finally:
                self._end(graph)

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        try:
            graph.capture_end()
        except RuntimeError:
            # Else torch's allocator would assume for good that the capture goes on, and free nothing.
            for give_back in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
                with suppress(RuntimeError, AttributeError):
                    getattr(torch._C, give_back)(torch.cuda.current_device(), self._pool)
            raise


def cuda_recorder(device: torch.device) -> Recorder | None:
    """A recorder for a device; None where it has no CUDA graphs or less than 6 GiB, or QUANTFACE_GRAPHS is 0.

    None too while the current stream is already being captured.
    """
    if device.type != "cuda" or torch.version.hip is not None or os.environ.get("QUANTFACE_GRAPHS") == "0":
        return None
    if torch.cuda.is_current_stream_capturing() or torch.cuda.get_device_properties(device).total_memory < _LEAST:
        return None
    return CudaRecorder(device)


class Graphs:
    """The graphs of one model. A copy starts empty."""

    failed = False  # in the whole process: what fails to capture once will fail again, unless memory was short

    def __init__(self, recorder: Callable[[torch.device], Recorder | None] = cuda_recorder) -> None:
        self._recorder_for, self._lock = recorder, threading.Lock()
        self.drop()

    def __reduce__(self) -> tuple[Any, ...]:
        return Graphs, (self._recorder_for,)

    def drop(self) -> None:
        """Discard all graphs and free their memory."""
        self._recorder: Recorder | None = None
        self._captured: dict[Any, _Captured] = {}
        self._seen: set[Any] = set()
        self._state: _State | None = None
        self._lacks_memory = False

    @contextmanager
    def running(self, model: nn.Module, device: torch.device, wanted: bool = True) -> Iterator[Run]:
        """Yield a function that runs parts of the model, as graphs where possible; a result holds until its next run.

        One thread at a time uses the graphs; others run eagerly meanwhile.
        """
        is_ours = self._lock.acquire(blocking=False)
        try:
            yield self._runner(model, device) if is_ours and wanted and self._may_run() else _eager
        except RuntimeError as error:
            if is_ours and is_out_of_memory(error):
                self.drop()
            raise
        finally:
            if is_ours:
                self._lock.release()

    def _may_run(self) -> bool:
        return _allowed.get() and not (Graphs.failed or self._lacks_memory or torch.is_grad_enabled())

    def _runner(self, model: nn.Module, device: torch.device) -> Run:
        if self._state is not None and not self._state.holds():
            self.drop()
        self._recorder = self._recorder or self._recorder_for(device)
        return _eager if self._recorder is None else lambda *given: self._run(model, *given)

    def _run(self, model: nn.Module, part: str, work: Callable[..., Any], *given: Any) -> Any:
        inputs, form = tree_flatten(given)
        shapes = tuple((tuple(x.shape), x.dtype, x.stride()) for x in inputs)
        # Inference tensors cannot be written to outside inference mode; under autocast, its dtype decides what runs.
        cast = [torch.get_autocast_dtype(x.device.type) for x in inputs[:1] if autocasts(x)]
        modes = torch.is_inference_mode_enabled(), *cast
        key = part, repr(form), shapes, modes
        if key in self._captured:
            return self._captured[key](inputs)
        if self._recorder is None or key not in self._seen:
            self._seen.add(key)
            return work(*given)
        captured = self._capture(lambda *held: work(*tree_unflatten(list(held), form)), inputs)
        if captured is None:
            return work(*given)
        self._captured[key], self._state = captured, _State(model)
        return captured.made

    def _capture(self, work: Callable[..., Any], inputs: list[Tensor]) -> _Captured | None:
        """None where capture fails, after which nothing more is captured."""
        assert self._recorder
        try:
            return _Captured(self._recorder, work, inputs)
        except RuntimeError as error:  # from the driver, the allocator or torch; not a cancellation
            lacks_memory = is_out_of_memory(error)
        # Only now that the error is gone: it references the feature maps of the failed capture.
        self.drop()
        self._lacks_memory = lacks_memory
        Graphs.failed = Graphs.failed or not lacks_memory
        if torch.cuda.is_available():
            with suppress(RuntimeError):
                torch.cuda.empty_cache()
        return None


def _eager(part: str, work: Callable[..., Any], *given: Any) -> Any:
    return work(*given)


class _Captured:
    """One part for one shape: the tensors that inputs are copied into, and those that results appear in."""

    def __init__(self, recorder: Recorder, work: Callable[..., Any], inputs: list[Tensor]) -> None:
        self._held = [x.clone() for x in inputs]
        self.made, self._replay = recorder.capture(lambda: work(*self._held))

    def __call__(self, inputs: list[Tensor]) -> Any:
        for held, x in zip(self._held, inputs, strict=True):
            held.copy_(x)
        self._replay()
        return self.made


class _State:
    """What a graph relies on: a model's modules, their tensors' addresses, its low-bit layers' kernels, cached results.

    Compared before every face: with flat lists that takes a third of a millisecond. Kernels and the results of constant
    caches are held, so that what a graph reads stays in place until the graph is dropped.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self._children = [(m._modules, tuple(m._modules.items())) for m in modules if m._modules]
        self._prepared = [(m, m._prepared) for m in modules if isinstance(m, QuantLayer)]
        tables = [table for m in modules for table in (m._parameters, m._buffers)]
        self._cached = [(cache, cache.cached) for cache in constant_caches(model)]
        self._tensors = [(table, name, _place(x)) for table in tables for name, x in table.items()]

    def holds(self) -> bool:
        """Whether all of it is the same, at the same addresses."""
        return (
            all(tuple(table.items()) == children for table, children in self._children)
            and all(layer._prepared is prepared for layer, prepared in self._prepared)
            and all(cache.cached is entry and (entry is None or entry.is_current()) for cache, entry in self._cached)
            and all(_place(table.get(name)) == place for table, name, place in self._tensors)
        )


def _place(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()
