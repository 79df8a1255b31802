"""Graphs by hand, with a recorder that needs no GPU: it computes again what it captured, in the same tensors."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from quantface_core.kernels import reference
from quantface_core.nn.constant_cache import ConstantCache
from quantface_core.nn.graphs import CudaRecorder, Graphs, cuda_recorder
from quantface_core.nn.swap import empty_like, prepare, quantizable, swap
from quantface_core.quant.observe import observe_inputs
from quantface_core.restorer import OneStepRestorer
from quantface_core.types import LayerFormat

CPU = torch.device("cpu")


class Again:
    """The stand-in; counts what is captured and replayed."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def capture(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        self.captured += 1
        made = work()

        def replay() -> None:
            self.replayed += 1
            for held, new in zip(tree_flatten(made)[0], tree_flatten(work())[0], strict=True):
                held.copy_(new)

        return made, replay


@pytest.fixture(autouse=True)
def _whole() -> Iterator[None]:
    yield
    Graphs.failed = False


@pytest.fixture
def recorder() -> Again:
    return Again()


@pytest.fixture
def graphs(recorder: Again) -> Graphs:
    return Graphs(lambda _: recorder)


@torch.inference_mode()
def run(graphs: Graphs, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with graphs.running(model, CPU) as part:
        return part("whole", model, x).clone()


def test_the_second_time_is_captured_and_the_third_replayed(graphs: Graphs, recorder: Again) -> None:
    model = nn.Linear(4, 3)
    counts = []
    for _ in range(4):
        x = torch.randn(2, 4)
        assert torch.equal(run(graphs, model, x), model(x))
        counts.append((recorder.captured, recorder.replayed))
    assert counts == [(0, 0), (1, 0), (1, 1), (1, 2)]


def test_every_shape_has_its_own(graphs: Graphs, recorder: Again) -> None:
    model = nn.Linear(4, 3)
    for rows in (1, 2, 1, 2, 1, 2):
        x = torch.randn(rows, 4)
        assert torch.equal(run(graphs, model, x), model(x))
    assert (recorder.captured, recorder.replayed) == (2, 2)


def low_bits() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(32, 16), nn.Linear(16, 8)).requires_grad_(False)
    swap(model, {"0": empty_like(quantizable(model)["0"], LayerFormat(4, 4))})
    prepare(model, reference)
    return model


def exchange_buffers(model: nn.Sequential) -> None:
    model[0]._buffers["packed"] = model[0].packed + 1


def exchange_parameters(model: nn.Sequential) -> None:
    model[1].weight = nn.Parameter(model[1].weight * 2, requires_grad=False)


CHANGES = {
    "buffers": exchange_buffers,
    "parameters": exchange_parameters,
    "their data": lambda model: setattr(model[1].weight, "data", model[1].weight * 2),
    "kernels": lambda model: prepare(model, reference),
    "a layer": lambda model: model.register_module("1", nn.Linear(16, 8).requires_grad_(False)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_graph_goes_with_what_it_reads(change: str, graphs: Graphs, recorder: Again) -> None:
    """Else it would read memory that holds something else by now."""
    model, x = low_bits(), torch.randn(2, 32)
    for _ in range(3):
        run(graphs, model, x)
    assert recorder.replayed == 1
    CHANGES[change](model)
    for _ in range(3):
        assert torch.equal(run(graphs, model, x), model(x))
    assert (recorder.captured, recorder.replayed) == (2, 2)


def test_weights_that_change_in_place_are_followed(graphs: Graphs, recorder: Again) -> None:
    model, x = nn.Linear(4, 3).requires_grad_(False), torch.randn(2, 4)
    for _ in range(2):
        run(graphs, model, x)
    model.weight.mul_(2)
    assert torch.equal(run(graphs, model, x), model(x))
    assert recorder.replayed == 1


def test_what_cannot_be_captured_is_computed_and_not_tried_again(graphs: Graphs, recorder: Again) -> None:
    tried = []

    def fail(work: Callable[[], Any]) -> Any:
        tried.append(work)
        raise RuntimeError("operation not permitted when stream is capturing")

    recorder.capture = fail  # type: ignore[method-assign]
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    for _ in range(4):
        assert torch.equal(run(graphs, model, x), model(x))
    assert len(tried) == 1
    other = Graphs(lambda _: pytest.fail("asked again"))
    assert torch.equal(run(other, model, x), model(x))


def test_none_where_gradients_are_wanted_or_another_thread_runs_it(graphs: Graphs, recorder: Again) -> None:
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    for _ in range(3):
        with graphs.running(model, CPU) as part:
            assert part("whole", model, x).requires_grad
    with torch.inference_mode(), graphs.running(model, CPU):
        for _ in range(3):
            run(graphs, model, x)
    assert recorder.captured == 0


def test_no_memory_drops_them(graphs: Graphs) -> None:
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    for _ in range(2):
        run(graphs, model, x)
    assert graphs._captured
    with pytest.raises(torch.cuda.OutOfMemoryError), torch.inference_mode(), graphs.running(model, CPU):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    assert not graphs._captured
    assert torch.equal(run(graphs, model, x), model(x))


def test_a_batch_that_finds_no_memory_drops_them_too(graphs: Graphs) -> None:
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    for _ in range(2):
        run(graphs, model, x)
    with pytest.raises(torch.cuda.OutOfMemoryError), torch.inference_mode(), graphs.running(model, CPU, wanted=False):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    assert not graphs._captured


def test_no_memory_to_capture_is_the_model_s_own_affair(graphs: Graphs, recorder: Again) -> None:
    """Computed eagerly once what failed is freed, till the model moves; other models go on capturing."""
    maps: list[weakref.ref[torch.Tensor]] = []
    capture = recorder.capture

    def fail(work: Callable[[], Any]) -> Any:
        made = torch.zeros(8)
        maps.append(weakref.ref(made))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    recorder.capture = fail  # type: ignore[method-assign]

    class Model(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not any(freed() is not None for freed in maps)
            return super().forward(x)

    model, x = Model(4, 3), torch.randn(2, 4)
    for _ in range(5):
        run(graphs, model, x)
    assert len(maps) == 1
    assert not Graphs.failed
    recorder.capture = capture  # type: ignore[method-assign]
    graphs.drop()  # it moved
    for _ in range(2):
        run(graphs, model, x)
    assert graphs._captured


def test_a_cancellation_is_no_failed_capture(graphs: Graphs, recorder: Again) -> None:
    class Cancelled(Exception):  # noqa: N818
        pass

    class Model(nn.Linear):
        cancelled = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.cancelled:
                raise Cancelled
            return super().forward(x)

    model, x = Model(4, 3), torch.randn(2, 4)
    run(graphs, model, x)
    model.cancelled = True
    with pytest.raises(Cancelled):
        run(graphs, model, x)
    model.cancelled = False
    for _ in range(2):
        assert torch.equal(run(graphs, model, x), model(x))
    assert (recorder.captured, recorder.replayed) == (2, 1)


def test_a_graph_of_inference_mode_serves_no_other(graphs: Graphs) -> None:
    """Its tensors could not be written to."""
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    for _ in range(3):
        run(graphs, model, x)
    for _ in range(3):
        with torch.no_grad(), graphs.running(model, CPU) as part:
            assert torch.equal(part("whole", model, x), model(x))


def test_a_graph_from_outside_autocast_serves_none_inside(graphs: Graphs) -> None:
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    for _ in range(3):
        run(graphs, model, x)
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(3):
            assert run(graphs, model, x).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.float16):
        for _ in range(3):
            assert run(graphs, model, x).dtype == torch.float16


def test_a_graph_keeps_what_a_constant_cache_gave_it(graphs: Graphs, recorder: Again) -> None:
    """Its memory must hold nothing else, and it is another once weights have changed in place."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.cache = nn.Linear(4, 4).requires_grad_(False), ConstantCache()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.cache(torch.empty(len(x), 4, device="meta"), (self.layer,), lambda time: time + 0)
            return self.layer(x)

    model, x = Model(), torch.randn(1, 4)
    for _ in range(2):
        run(graphs, model, x)
    assert model.cache.kept is not None
    kept = weakref.ref(model.cache.kept.result)
    with torch.inference_mode():
        model(torch.randn(3, 4))  # a batch runs eagerly in between
    assert kept() is model.cache.kept.result
    model.cache.kept = None
    assert kept() is not None  # the graph still reads it
    model.layer.weight.mul_(2)
    for _ in range(2):
        assert torch.equal(run(graphs, model, x), model.layer(x))
    assert recorder.captured == 2


def test_layers_that_are_observed_run_eagerly(graphs: Graphs, recorder: Again) -> None:
    """A replay calls no hooks."""
    model, x, seen = nn.Sequential(nn.Linear(4, 3)), torch.randn(2, 4), []
    with observe_inputs({"0": model[0]}, lambda name, *_: seen.append(name)):
        for _ in range(4):
            run(graphs, model, x)
    assert (len(seen), recorder.captured) == (4, 0)


def test_a_processor_has_none() -> None:
    assert cuda_recorder(CPU) is None


@torch.inference_mode()
def test_a_restorer_replays_four_parts_a_face(tiny: OneStepRestorer, recorder: Again) -> None:
    restorer = copy.deepcopy(tiny)
    assert not restorer.graphs._captured
    restorer.graphs = Graphs(lambda _: recorder)
    faces = [torch.rand(1, 3, 64, 64) * 2 - 1 for _ in range(4)]
    expected = [tiny(face, seeds) for face in faces for seeds in (None, [7])]
    found = [restorer(face, seeds) for face in faces for seeds in (None, [7])]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert (recorder.captured, recorder.replayed) == (4, 4 * 6)
    restorer(torch.cat(faces))
    assert recorder.captured == 4
    restorer.to("cpu")
    assert not restorer.graphs._captured


class Cuda:
    """What `CudaRecorder` asks of torch, told as it is asked."""

    def __init__(self, patch: pytest.MonkeyPatch, end: Exception | None = None) -> None:
        self.told: list[Any] = []
        self.end = end
        patch.setattr(torch.cuda, "device", lambda device: self._within(f"device {device.index}"))
        patch.setattr(torch.cuda, "stream", lambda _: self._within("side stream"))
        patch.setattr(torch.cuda, "Stream", lambda: self)
        patch.setattr(torch.cuda, "current_stream", lambda: self)
        patch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
        patch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        patch.setattr(torch.cuda, "current_device", lambda: 1)
        for name in ("synchronize", "empty_cache"):
            patch.setattr(torch.cuda, name, lambda: None)
        for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
            patch.setattr(torch._C, name, lambda *given, name=name: self.told.append((name, *given)), raising=False)

    @contextmanager
    def _within(self, name: str) -> Iterator[None]:
        self.told.append(name)
        try:
            yield
        finally:
            self.told.append(f"{name} left")

    def wait_stream(self, _: object) -> None:
        pass

    def capture_begin(self, **_: object) -> None:
        self.told.append("begin")

    def capture_end(self) -> None:
        self.told.append("end")
        if self.end:
            raise self.end

    def replay(self) -> None:
        self.told.append("replay")


RECORDED = ["device 1", "side stream", "work", "side stream left", "side stream", "begin", "work", "end"]


def test_it_is_recorded_on_the_model_s_device(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    recorder = CudaRecorder(torch.device("cuda", 1))
    cuda.told.clear()
    recorder.capture(lambda: cuda.told.append("work"))
    assert cuda.told == [*RECORDED, "side stream left", "replay", "device 1 left"]


def test_a_capture_whose_end_fails_leaves_torch_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stream is the current one no longer, and its allocator frees again."""
    cuda = Cuda(monkeypatch, RuntimeError("operation failed due to a previous error during capture"))
    recorder = CudaRecorder(torch.device("cuda", 1))
    cuda.told.clear()
    with pytest.raises(RuntimeError, match="during capture"):
        recorder.capture(lambda: cuda.told.append("work"))
    returned = [("_cuda_endAllocateToPool", 1, (0, 1)), ("_cuda_releasePool", 1, (0, 1))]
    assert cuda.told == [*RECORDED, *returned, "side stream left", "device 1 left"]
