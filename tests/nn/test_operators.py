"""What `torch.compile` calls low-bit layers by: one graph around them, the same results, each layer its own."""

from __future__ import annotations

import copy
import pickle
import sys
from dataclasses import replace
from threading import Event, Thread

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from quantface_core.errors import UsageError
from quantface_core.nn import operators
from quantface_core.nn.qconv2d import QuantConv2d
from quantface_core.nn.qlayer import QuantLayer
from quantface_core.nn.qlinear import QuantLinear
from tests.nn.layers import balanced

pytestmark = pytest.mark.skipif(not operators.AVAILABLE, reason="from torch 2.6 on")
LAYERS = {
    "linear": (nn.Linear(32, 16), (3, 32)),
    "tokens": (nn.Linear(32, 16), (2, 5, 32)),
    "convolution": (nn.Conv2d(32, 16, 3, padding=1), (2, 32, 6, 6)),
    "strided": (nn.Conv2d(32, 16, (3, 2), stride=(2, 1), padding=(0, 1)), (2, 32, 8, 6)),
    "unbatched": (nn.Conv2d(32, 16, 3), (32, 6, 6)),
    "pointwise": (nn.Conv2d(32, 16, 1), (2, 32, 6, 6)),
}


@pytest.fixture(params=LAYERS)
def low(request: pytest.FixtureRequest) -> QuantLayer:
    return balanced(LAYERS[request.param][0], rank=4, seed=0, per_pixel=request.param == "pointwise")[0]


@pytest.fixture
def x(low: QuantLayer, request: pytest.FixtureRequest) -> torch.Tensor:
    shape = LAYERS[request.node.callspec.params["low"]][1]
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class SimpleScale:
    """What operators find a layer by, and nothing else."""

    def __init__(self) -> None:
        self.weight_scale = torch.ones(4)


def whole(model: nn.Module, **options: object) -> nn.Module:
    torch.compiler.reset()
    return torch.compile(model, fullgraph=True, backend="aot_eager", **options)


def test_one_graph_computes_the_same(low: QuantLayer, x: torch.Tensor) -> None:
    """Also of a copy, of one that was pickled, and after a move."""
    for layer in (low, copy.deepcopy(low), pickle.loads(pickle.dumps(low))):
        model = nn.Sequential(layer, nn.SiLU())
        compiled = whole(model)
        with torch.no_grad():
            assert torch.equal(compiled(x), model(x))
            model.to(torch.bfloat16)
            assert torch.equal(compiled(x.bfloat16()), model(x.bfloat16()))


def test_an_older_compiler_takes_one_graph_too(
    low: QuantLayer, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch 2.10's takes compiling for exporting, and cannot trace which devices have autocast."""
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: torch.compiler.is_dynamo_compiling(), raising=False)
    monkeypatch.setattr(torch.amp, "is_autocast_available", torch.compiler.disable(torch.amp.is_autocast_available))
    with torch.no_grad():
        assert torch.equal(whole(low)(x), low(x))


def test_gradients_pass_as_without_the_compiler(low: QuantLayer, x: torch.Tensor) -> None:
    model = nn.Sequential(low, nn.SiLU())
    plain, compiled = (x.clone().requires_grad_() for _ in range(2))
    for run, given in ((model, plain), (whole(model), compiled)):
        run(given).square().sum().backward()
    torch.testing.assert_close(compiled.grad, plain.grad, rtol=1e-5, atol=1e-6)


def test_batches_of_any_size_take_one_graph(low: QuantLayer, x: torch.Tensor) -> None:
    if isinstance(low, QuantConv2d) and x.ndim == 3:
        pytest.skip("has no batch")
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(low, fullgraph=True, backend=count, dynamic=True)
    for batch in (2, 3, 5):
        given = x[:1].repeat_interleave(batch, 0)
        assert torch.equal(compiled(given), low(given))
    assert len(graphs) == 1


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_results_are_laid_out_as_the_compiler_was_told(low: QuantLayer, x: torch.Tensor, batch: int) -> None:
    given = (x if x.ndim != 3 or isinstance(low, QuantLinear) else x[None])[:batch]
    if isinstance(low, QuantConv2d):
        operator, others = operators.conv2d, (low.shape[2:], low.stride, low.padding)
    else:
        operator, others = operators.linear, ()
        given = given.movedim(1, -1) if given.ndim == 4 else given
    made = operator(given, low.weight_scale, *others)
    with FakeTensorMode() as mode:
        told = operator(*(mode.from_tensor(t) for t in (given, low.weight_scale)), *others)
    assert (told.shape, told.dtype) == (made.shape, made.dtype)
    assert told.stride() == made.stride() or not batch


def test_layers_of_the_same_integers_are_told_apart(low: QuantLayer, x: torch.Tensor) -> None:
    other = low.like(replace(low.format, clip=0.4, rank=0))
    first, second = whole(nn.Sequential(low)), torch.compile(nn.Sequential(other), fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(first(x), low(x))
        assert torch.equal(second(x), other(x))
        assert not torch.equal(first(x), second(x))


def test_blocks_that_are_alike_share_one_graph() -> None:
    """As `compile_repeated_blocks` of diffusers compiles a transformer."""
    layers = [balanced(nn.Linear(32, 32), rank=4, seed=seed, per_pixel=False)[0] for seed in range(10)]
    for seed, layer in enumerate(layers):
        layer.weight_scale = layer.weight_scale * (1 + seed)
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in layers:
            block = nn.Sequential(layer, nn.SiLU())
            expected = block(x)
            block.compile(fullgraph=True, backend=count)
            assert torch.equal(block(x), expected)
    assert len(graphs) == 1


def test_under_autocast_the_compiler_is_told_its_dtype(low: QuantLayer, x: torch.Tensor) -> None:
    class Widened(nn.Module):
        def forward(self, y: torch.Tensor) -> torch.Tensor:
            return y.float()  # left out of the graph where y is float32 already

    model = nn.Sequential(low, Widened())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        made, expected = whole(model)(x), model(x)
    assert made.dtype == torch.float32
    assert torch.equal(made, expected)


def test_a_scale_in_the_place_of_one_that_moved_is_anothers() -> None:
    first, second = SimpleScale(), SimpleScale()
    operators.register(first)
    operators.register(second)
    place = first.weight_scale
    assert operators._layer_of(place) is first
    first.weight_scale, second.weight_scale = second.weight_scale, place
    assert operators._layer_of(place) is second


def test_layers_are_found_while_other_threads_make_some() -> None:
    layers = [SimpleScale() for _ in range(3000)]
    for layer in layers:
        operators.register(layer)
    ended, interval = Event(), sys.getswitchinterval()

    def make() -> None:
        while not ended.is_set():
            operators.register(SimpleScale())

    other = Thread(target=make)
    sys.setswitchinterval(1e-6)
    other.start()
    try:
        for _ in range(500):
            operators._by_address.clear()
            assert operators._layer_of(layers[-1].weight_scale) is layers[-1]
    finally:
        ended.set()
        other.join()
        sys.setswitchinterval(interval)


def test_a_layer_that_is_gone_is_told() -> None:
    with pytest.raises(UsageError, match="compile it again"):
        operators.linear(torch.zeros(3, 32), torch.ones(16))
