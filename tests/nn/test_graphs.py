"""When a graph is captured, when it is replayed, and when it no longer holds."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import nn

from quantface_core.kernels import reference
from quantface_core.nn.constant_cache import ConstantCache
from quantface_core.nn.graphs import Graphs
from quantface_core.nn.swap import empty_like, prepare, quantizable, swap
from quantface_core.quant.observe import observe_inputs
from quantface_core.restorer import OneStepRestorer
from quantface_core.types import LayerFormat
from tests.nn.layers import CPU
from tests.nn.recorder import Again, run


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


def test_none_where_gradients_are_wanted_or_another_thread_runs_it(graphs: Graphs, recorder: Again) -> None:
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    for _ in range(3):
        with graphs.running(model, CPU) as part:
            assert part("whole", model, x).requires_grad
    with torch.inference_mode(), graphs.running(model, CPU):
        for _ in range(3):
            run(graphs, model, x)
    assert recorder.captured == 0


def test_a_graph_of_inference_mode_serves_no_other(graphs: Graphs) -> None:
    """Its tensors could not be written to."""
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    for _ in range(3):
        run(graphs, model, x)
    for _ in range(3):
        with torch.no_grad(), graphs.running(model, CPU) as part:
            assert torch.equal(part("whole", model, x), model(x))


def test_none_under_autocast(graphs: Graphs, recorder: Again) -> None:
    """It caches casts of weights, and frees them when it ends: a graph would read freed memory."""
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    for _ in range(3):
        run(graphs, model, x)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            for _ in range(3):
                assert run(graphs, model, x).dtype == dtype
    assert (recorder.captured, recorder.replayed) == (1, 1)
    assert torch.equal(run(graphs, model, x), model(x))


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
    assert model.cache.cached is not None
    kept = weakref.ref(model.cache.cached.result)
    with torch.inference_mode():
        model(torch.randn(3, 4))  # a batch runs eagerly in between
    assert kept() is model.cache.cached.result
    model.cache.cached = None
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


@torch.inference_mode()
def test_a_restorer_replays_four_parts_a_face(tiny: OneStepRestorer, recorder: Again) -> None:
    restorer = copy.deepcopy(tiny)
    assert not restorer.graphs.held
    restorer.graphs = Graphs(lambda _: recorder)
    faces = [torch.rand(1, 3, 64, 64) * 2 - 1 for _ in range(4)]
    expected = [tiny(face, seeds) for face in faces for seeds in (None, [7])]
    found = [restorer(face, seeds) for face in faces for seeds in (None, [7])]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert (recorder.captured, recorder.replayed, recorder.followed) == (4, 4 * 6, 8)
    restorer(torch.cat(faces))
    assert recorder.captured == 4
    restorer.to("cpu")
    assert not restorer.graphs.held
