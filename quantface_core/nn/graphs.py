"""Parts of a model as CUDA graphs: a face's 1400 kernels are started by four calls in place of one each.

A shape is computed eagerly the first time, captured the second and replayed from then on: a single photo would gain
nothing. Where capturing fails, now or for good, everything is computed eagerly. A graph holds the addresses of weights
and of what was made of them: it is dropped when they are others.

Captured by hand, not by `torch.compile`: its own graphs do not work with the allocator that ComfyUI chooses, and it
takes minutes before the first picture.
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

from .autocast import autocasts
from .constant_cache import constant_caches
from .qlayer import QuantLayer

_allowed = ContextVar("graphs_allowed", default=True)
_LEAST = 6 << 30  # bytes of a device, below which it has no room for maps that stay
Run = Callable[..., Any]
"""Called with a part's name, its function and that function's arguments."""


@contextmanager
def without_graphs() -> Iterator[None]:
    """While it lasts, every part runs eagerly: a replay runs no Python, neither hooks nor a layer's own code."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


class Recorder(Protocol):
    """What captures: `CudaRecorder`, or a stand-in."""

    def capture(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """What work returns, and a call that computes it anew, in the same tensors."""


class CudaRecorder:
    """CUDA's graphs, which share their memory: one part is done when the next one begins."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool, self._side = torch.cuda.graph_pool_handle(), torch.cuda.Stream()

    def capture(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        with torch.cuda.device(self._device):  # streams belong to one, and the current one may be another
            self._warm_up(work)
            graph = torch.cuda.CUDAGraph()
            made = self._record(graph, work)
            graph.replay()
        return made, graph.replay

    def _warm_up(self, work: Callable[[], Any]) -> None:
        """Make once what is made once, outside the graph; then free what the graph has to make for itself."""
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            work()
        torch.cuda.current_stream().wait_stream(self._side)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    def _record(self, graph: torch.cuda.CUDAGraph, work: Callable[[], Any]) -> Any:
        # Not `torch.cuda.graph`, which leaves the capture's stream in place where its end fails.
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
            # torch's allocator would believe for ever that the capture goes on, and free nothing.
            for give_back in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
                with suppress(RuntimeError, AttributeError):
                    getattr(torch._C, give_back)(torch.cuda.current_device(), self._pool)
            raise


def cuda_recorder(device: torch.device) -> Recorder | None:
    """A recorder for a device; None where there are no such graphs, or no room, or QUANTFACE_GRAPHS is 0."""
    if device.type != "cuda" or torch.version.hip is not None or os.environ.get("QUANTFACE_GRAPHS") == "0":
        return None
    if torch.cuda.is_current_stream_capturing() or torch.cuda.get_device_properties(device).total_memory < _LEAST:
        return None
    return CudaRecorder(device)


class Graphs:
    """The graphs of one model. A copy starts empty."""

    failed = False  # of the process: what cannot be captured once will not be later, unless memory was short

    def __init__(self, recorder: Callable[[torch.device], Recorder | None] = cuda_recorder) -> None:
        self._recorder_for, self._lock = recorder, threading.Lock()
        self.drop()

    def __reduce__(self) -> tuple[Any, ...]:
        return Graphs, (self._recorder_for,)

    def drop(self) -> None:
        """Forget all graphs, and with them their memory."""
        self._recorder: Recorder | None = None
        self._captured: dict[Any, _Captured] = {}
        self._seen: set[Any] = set()
        self._state: _State | None = None
        self._lacks_memory = False

    @contextmanager
    def running(self, model: nn.Module, device: torch.device, wanted: bool = True) -> Iterator[Run]:
        """Gives what runs parts of the model, by graph where it can; results hold until the part runs again."""
        is_ours = self._lock.acquire(blocking=False)
        try:
            yield self._runner(model, device) if is_ours and wanted and self._may_run() else _eager
        except torch.cuda.OutOfMemoryError:
            if is_ours:
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
        # Tensors of inference mode cannot be written to outside it; under autocast other kernels run, by its dtype.
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
        """None where it fails, and then nothing more is captured."""
        assert self._recorder
        try:
            return _Captured(self._recorder, work, inputs)
        except RuntimeError as error:  # the driver's, the allocator's, torch's; not a cancellation
            lacks_memory = isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error)
        # Only now, without the error: it holds the maps of what failed.
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
    """One part for one shape: tensors that inputs are copied into, and those that results appear in."""

    def __init__(self, recorder: Recorder, work: Callable[..., Any], inputs: list[Tensor]) -> None:
        self._held = [x.clone() for x in inputs]
        self.made, self._replay = recorder.capture(lambda: work(*self._held))

    def __call__(self, inputs: list[Tensor]) -> Any:
        for held, x in zip(self._held, inputs, strict=True):
            held.copy_(x)
        self._replay()
        return self.made


class _State:
    """What a graph counts on: a model's modules, where their tensors are, the kernels of its low-bit layers, and what
    its constant caches keep.

    Compared before every face: as flat lists it takes a third of a millisecond. Kernels and kept results are held, so
    that what a graph reads stays where it is until it is dropped.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self._children = [(m._modules, tuple(m._modules.items())) for m in modules if m._modules]
        self._kernels = [(m, m._kernel) for m in modules if isinstance(m, QuantLayer)]
        tables = [table for m in modules for table in (m._parameters, m._buffers)]
        self._kept = [(cache, cache.kept) for cache in constant_caches(model)]
        self._tensors = [(table, name, _place(x)) for table in tables for name, x in table.items()]

    def holds(self) -> bool:
        """Whether everything is where it was."""
        return (
            all(tuple(table.items()) == children for table, children in self._children)
            and all(layer._kernel is kernel for layer, kernel in self._kernels)
            and all(cache.kept is kept and (kept is None or kept.is_current()) for cache, kept in self._kept)
            and all(_place(table.get(name)) == place for table, name, place in self._tensors)
        )


def _place(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()
