"""Linears that read the same codes as one product; what they hold, and for how long."""

from __future__ import annotations

import gc
import weakref
from importlib.metadata import version

import pytest
import torch

from quantface_core.kernels import reference, weight_cache
from quantface_core.kernels.fusion import LinearFusion
from tests.kernels.backends import INTERPRETED, linear_spec
from tests.kernels.triton.draws import Draw

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels import triton
from quantface_core.kernels.triton import launch

TRITON = tuple(map(int, version("triton").split(".")[:2]))


@pytest.mark.parametrize("ranks", [(16,), (0,), (16, 16, 16), (16, 0, 4)])
def test_linears_with_one_input_are_one_product(ranks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Draw(3)
    x, transform = draw.eighths(37, 128), draw.transform(128, 64)
    kernels, expected = [], []
    for number, rank in enumerate(ranks):
        weight, bias = draw.weight((40 + 8 * number, 128)), draw.floats(40 + 8 * number) if number != 1 else None
        spec = linear_spec(weight, 4, 0.8, bias=bias, transform=transform)
        y = reference.Linear(spec)(x)
        ours = triton.Linear(spec)
        if rank:
            down, up = draw.powers(rank, 128), draw.powers(len(y[0]), rank)
            ours.take_branch(lambda down=down, up=up: (down, up))
            y = y + ((transform(x).double() @ down.double().t()) @ up.double().t()).float()
        kernels.append(ours)
        expected.append(y)
    skip = draw.floats(37, sum(y.shape[1] for y in expected))
    started, plain = [], launch.start

    def start(kernel, *more, **named) -> None:
        started.append(kernel)
        plain(kernel, *more, **named)

    monkeypatch.setattr(launch, "start", start)
    for _ in range(2):
        started.clear()
        found = kernels[0].fused(x, LinearFusion(skip=skip), tuple(kernels[1:]))
    wanted = (torch.cat(expected, 1) + skip).split([y.shape[1] for y in expected], 1)
    for a, b in zip(found, wanted, strict=True):
        # Before Triton 3.9 its interpreter, unlike a GPU, rounds the product of a multiply-add as well; a GPU, unlike
        # the interpreter, adds a branch's products to the result one by one.
        assert (a - b).abs().max() <= (0 if INTERPRETED and TRITON >= (3, 9) else 2e-4)
    assert len(started) == 2  # the weights stay unpacked


def test_weights_stay_packed_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_cache, "_has_room", lambda _: False)
    draw = Draw(4)
    specs = [linear_spec(draw.weight((8, 64)), 4, 0.8) for _ in range(2)]
    layers, x = tuple(triton.Linear(spec) for spec in specs), draw.eighths(5, 64)
    for layer, spec in zip(layers, specs, strict=True):
        assert torch.equal(layer(x), reference.Linear(spec)(x))
        assert layer.unpacked._weight is None
    assert torch.equal(layers[0].fused(x, LinearFusion(), layers[1:])[1], layers[1](x))
    assert layers[0]._stacks[1]._weight._weight is None


def test_a_reprepared_layer_replaces_the_old_one_in_the_stack() -> None:
    """As where a host swaps a layer's buffers at every face: the old ones would fill the memory."""
    draw = Draw(4)
    first, *others = (triton.Linear(linear_spec(draw.weight((8, 64)), 4, 0.8)) for _ in range(3))
    x = draw.eighths(5, 64)
    old = weakref.ref(others[1])
    first.fused(x, LinearFusion(), tuple(others))
    others[1] = triton.Linear(linear_spec(draw.weight((8, 64)), 4, 0.8))
    found = first.fused(x, LinearFusion(), tuple(others))
    assert torch.equal(found[2], others[1](x))
    assert old() is None


def test_stacked_layers_are_freed_with_their_model() -> None:
    """At once, not when Python next looks for cycles: a host counts on the memory."""
    draw = Draw(4)
    layers = tuple(triton.Linear(linear_spec(draw.weight((8, 64)), 4, 0.8)) for _ in range(3))
    layers[0].fused(draw.eighths(5, 64), LinearFusion(), layers[1:])
    layers[0].fused(draw.eighths(5, 64), LinearFusion())
    gone = [weakref.ref(layer) for layer in layers]
    gc.disable()
    try:
        del layers
        assert not any(layer() for layer in gone)
    finally:
        gc.enable()
