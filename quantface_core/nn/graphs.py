"""Parts of a model as CUDA graphs: four launches per face instead of one for each of its 1400 kernels.

A shape runs eagerly the first time, is captured the second and replayed from then on: a single photo would gain
nothing. Where capture fails, for now or for good, everything runs eagerly. A graph holds the addresses of weights and
of tensors derived from them, so it is dropped when these are replaced.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..errors import one_line
from ..runtime.autocast import autocast_dtype
from ..runtime.memory import is_out_of_memory
from .constant_cache import constant_caches
from .cuda_recorder import Recorder, cuda_recorder
from .qlayer import QuantLayer

_allowed = ContextVar("graphs_allowed", default=True)
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


class Graphs:
    """The graphs of one model. A copy starts empty."""

    failure = ""  # why nothing is captured in this process: what fails once fails again, unless memory was short

    def __init__(self, recorder: Callable[[torch.device], Recorder | None] = cuda_recorder) -> None:
        self._recorder_for, self._lock = recorder, threading.Lock()
        self.drop()

    def __reduce__(self) -> tuple[Any, ...]:
        return Graphs, (self._recorder_for,)

    @property
    def held(self) -> bool:
        """Whether any part is captured: a captured graph holds the memory of its feature maps until it is dropped."""
        return bool(self._captured)

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
            yield self._runner(model, device) if is_ours and wanted and self._may_run(device) else _eager
        except RuntimeError as error:
            if is_ours and is_out_of_memory(error):
                self.drop()
            raise
        finally:
            if is_ours:
                self._lock.release()

    def _may_run(self, device: torch.device) -> bool:
        # Not under autocast: it caches casts of weights, which a graph would read, and frees them when it ends.
        computes = not torch.is_grad_enabled() and autocast_dtype(device.type) is None
        return _allowed.get() and computes and not (Graphs.failure or self._lacks_memory)

    def _runner(self, model: nn.Module, device: torch.device) -> Run:
        if self._state is not None and not self._state.holds():
            self.drop()
        self._recorder = self._recorder or self._recorder_for(device)
        if self._recorder is None:
            return _eager
        self._recorder.follow()
        return lambda *given: self._run(model, *given)

    def _run(self, model: nn.Module, part: str, work: Callable[..., Any], *given: Any) -> Any:
        inputs, form = tree_flatten(given)
        shapes = tuple((tuple(x.shape), x.dtype, x.stride()) for x in inputs)
        # Inference tensors cannot be written to outside inference mode.
        key = part, repr(form), shapes, torch.is_inference_mode_enabled()
        if key in self._captured:
            return self._captured[key](inputs)
        if self._recorder is None or key not in self._seen:
            self._seen.add(key)
            return work(*given)
        captured = self._capture(part, lambda *held: work(*tree_unflatten(list(held), form)), inputs)
        if captured is None:
            return work(*given)
        self._captured[key], self._state = captured, _State(model)
        return captured.made

    def _capture(self, part: str, work: Callable[..., Any], inputs: list[Tensor]) -> _Captured | None:
        """None where capture fails, after which nothing more is captured; warns unless memory was short."""
        assert self._recorder
        try:
            return _Captured(self._recorder, work, inputs)
        except RuntimeError as error:  # from the driver, the allocator or torch
            lacks_memory, reason = is_out_of_memory(error), one_line(error)
        except BaseException:  # a cancellation
            if not self._captured:  # torch may have freed the pool with the only graph that was to use it
                self._recorder = None
            raise
        # Only now that the error is gone: it references the feature maps of the failed capture.
        self.drop()
        self._lacks_memory = lacks_memory
        if not lacks_memory:
            Graphs.failure = f"{part}: {reason}"
            warnings.warn(f"CUDA graphs are off, so faces take longer: capturing {Graphs.failure}", stacklevel=2)
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
