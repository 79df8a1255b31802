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
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from .qlayer import QuantLayer

_LEAST = 6 << 30  # bytes of a device, below which it has no room for maps that stay
Run = Callable[..., Any]
"""Called with a part's name, its function and that function's arguments."""


class Recorder(Protocol):
    """What captures: `CudaRecorder`, or a stand-in."""

    def capture(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """What work returns, and a call that computes it anew, in the same tensors."""


class CudaRecorder:
    """CUDA's graphs, which share their memory: one part is done when the next one begins."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the device meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            made = work()
        graph.replay()
        return made, graph.replay


def cuda_recorder(device: torch.device) -> Recorder | None:
    """A recorder for a device; None where there are no such graphs, or no room, or QUANTFACE_GRAPHS is 0."""
    if device.type != "cuda" or torch.version.hip is not None or os.environ.get("QUANTFACE_GRAPHS") == "0":
        return None
    if torch.cuda.is_current_stream_capturing() or torch.cuda.get_device_properties(device).total_memory < _LEAST:
        return None
    return CudaRecorder()


class Graphs:
    """The graphs of one model. A copy starts empty."""

    failed = False  # of the process: what cannot be captured once will not be later

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

    @contextmanager
    def running(self, model: nn.Module, device: torch.device, wanted: bool = True) -> Iterator[Run]:
        """Gives what runs parts of the model, by graph where it can; results hold until the part runs again."""
        if not wanted or Graphs.failed or torch.is_grad_enabled() or not self._lock.acquire(blocking=False):
            yield _eager
            return
        try:
            if self._state is not None and not self._state.holds():
                self.drop()
            self._recorder = self._recorder or self._recorder_for(device)
            yield _eager if self._recorder is None else lambda *given: self._run(model, *given)
        except torch.cuda.OutOfMemoryError:
            self.drop()
            raise
        finally:
            self._lock.release()

    def _run(self, model: nn.Module, part: str, work: Callable[..., Any], *given: Any) -> Any:
        inputs, form = tree_flatten(given)
        key = part, repr(form), tuple((tuple(x.shape), x.dtype, x.stride()) for x in inputs)
        if key in self._captured:
            return self._captured[key](inputs)
        if Graphs.failed or key not in self._seen:
            self._seen.add(key)
            return work(*given)
        assert self._recorder
        try:
            self._captured[key] = _Captured(
                self._recorder, lambda *held: work(*tree_unflatten(list(held), form)), inputs
            )
        except Exception:  # the driver's, the allocator's, torch's: whatever it is, there is another way
            Graphs.failed = True
            self.drop()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return work(*given)
        self._state = _State(model)
        return self._captured[key].made


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
    """What a graph counts on: a model's modules, where their tensors are, and the kernels of its low-bit layers.

    Compared before every face: as flat lists it takes a third of a millisecond. Kernels are held, so that what a graph
    reads stays where it is until it is dropped.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self._children = [(m._modules, tuple(m._modules.items())) for m in modules if m._modules]
        self._kernels = [(m, m._kernel) for m in modules if isinstance(m, QuantLayer)]
        tables = [table for m in modules for table in (m._parameters, m._buffers)]
        self._tensors = [(table, name, _place(x)) for table in tables for name, x in table.items()]

    def holds(self) -> bool:
        """Whether everything is where it was."""
        return (
            all(tuple(table.items()) == children for table, children in self._children)
            and all(layer._kernel is kernel for layer, kernel in self._kernels)
            and all(_place(table.get(name)) == place for table, name, place in self._tensors)
        )


def _place(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()
