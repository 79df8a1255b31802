"""Low-bit layers called as the layers that they stand for may be: any dtype and batch, autocast, a state loaded."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quantface_core.errors import UsageError
from quantface_core.kernels.balance import low_rank
from quantface_core.kernels.channel_transform import ChannelTransform
from quantface_core.kernels.dispatch import backend_name
from quantface_core.nn.qconv2d import QuantConv2d
from quantface_core.nn.qlayer import QuantLayer
from quantface_core.nn.qlinear import QuantLinear, project
from quantface_core.types import LayerFormat
from tests.nn.layers import AVAILABLE, balanced

LAYERS = {
    "linear": (nn.Linear(32, 16), (3, 32)),
    "convolution": (nn.Conv2d(32, 16, 3, padding=1), (2, 32, 6, 6)),
    "pointwise": (nn.Conv2d(32, 16, 1), (2, 32, 6, 6)),
}


@pytest.fixture(params=LAYERS)
def low(request: pytest.FixtureRequest) -> QuantLayer:
    return balanced(LAYERS[request.param][0], rank=4, seed=0, per_pixel=request.param == "pointwise")[0]


@pytest.fixture
def x(low: QuantLayer) -> torch.Tensor:
    shape = (3, 32) if type(low) is QuantLinear else (2, 32, 6, 6)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_a_loaded_state_is_what_computes(low: QuantLayer, x: torch.Tensor) -> None:
    before, state = low(x), copy.deepcopy(low.state_dict())
    low.multiply_outputs(slice(0, 8), torch.full((8,), 2.0))
    assert not torch.equal(low(x), before)
    low.load_state_dict(state)
    assert torch.equal(low(x), before)


def test_a_state_of_another_format_is_refused_and_one_that_names_none_is_loaded(
    low: QuantLayer, x: torch.Tensor, tmp_path: Path
) -> None:
    torch.save(nn.Sequential(low).state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    model = nn.Sequential(low.like(replace(low.format, seed=7)))
    model[0].weight_scale = low.weight_scale * 2
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match=r"0 was quantized to another format \(seed 0, here 7\): use load_quantized"):
        model.load_state_dict(state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.load_state_dict(dict(state))
    same = nn.Sequential(low.like(low.format))
    same.load_state_dict(state)
    assert torch.equal(same(x), low(x))


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)])
@torch.no_grad()
def test_a_doubled_map_in_another_dtype_is_as_if_it_were_the_first(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    first = balanced(nn.Conv2d(32, 16, 3, padding=1), rank=4, seed=0)[0]
    fresh = copy.deepcopy(first)
    x = torch.randn(2, 32, 6, 6, generator=torch.Generator().manual_seed(0))
    first.forward_upsampled(x.to(dtypes[0]))
    assert torch.equal(first.forward_upsampled(x.to(dtypes[1])), fresh.forward_upsampled(x.to(dtypes[1])))


@pytest.mark.parametrize("backend", AVAILABLE, ids=backend_name)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_what_a_layer_reads(low: QuantLayer, x: torch.Tensor, backend, dtype: torch.dtype) -> None:
    low.prepare(backend)
    with torch.autocast("cpu", dtype):
        made = low(x)
        if isinstance(low, QuantLinear):
            with torch.no_grad():
                assert torch.equal(low.cached(x), made)
        elif isinstance(low, QuantConv2d):
            assert low.forward_upsampled(x).dtype == dtype
    low.prepare(backend)
    assert torch.equal(made, low(x.to(dtype)))  # whatever was prepared under autocast
    assert low(x).dtype == torch.float32


def _exported(model: nn.Module, x: torch.Tensor, strict: bool) -> torch.export.ExportedProgram:
    return torch.export.export(model, (x,), strict=strict)


@pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="this torch tells no reasons")
def test_an_export_is_refused(low: QuantLayer, x: torch.Tensor) -> None:
    model = nn.Sequential(low, nn.SiLU())
    with torch.no_grad():
        for strict in (True, False):
            with pytest.raises((UsageError, RuntimeError), match="export the model in full precision"):
                _exported(model, x, strict=strict)
        assert torch.isfinite(model(x)).all()


def test_a_compiled_layer_follows_autocast(low: QuantLayer, x: torch.Tensor) -> None:
    compiled = torch.compile(low, backend="eager")
    with torch.no_grad():
        for wanted in (False, True, False):
            with torch.autocast("cpu", torch.bfloat16, enabled=wanted):
                assert torch.equal(low(x), compiled(x))


@pytest.mark.parametrize("backend", AVAILABLE, ids=backend_name)
def test_gradients_by_the_input_are_those_of_the_layer_that_it_stands_for(
    low: QuantLayer, x: torch.Tensor, backend
) -> None:
    def gradient(compute: Callable[[torch.Tensor], torch.Tensor], of: torch.Tensor) -> torch.Tensor:
        of = of.clone().requires_grad_()
        y = compute(of)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        assert of.grad is not None
        return of.grad

    low.prepare(backend)
    convolution = isinstance(low, QuantConv2d)
    weight = low.weight if convolution or type(low) is QuantLinear else low.weight[:, :, None, None]
    exact = (
        partial(F.linear, weight=weight) if x.ndim == 2 else partial(F.conv2d, weight=weight, padding=int(convolution))
    )
    torch.testing.assert_close(gradient(low, x), gradient(exact, x))
    torch.testing.assert_close(gradient(low, x[0]), gradient(exact, x[:1])[0])
    assert gradient(low, x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        made = gradient(low, x)
    torch.testing.assert_close(made, gradient(exact, x), atol=0.1, rtol=0.05)
    if convolution:
        doubled = partial(F.interpolate, scale_factor=2.0)
        torch.testing.assert_close(gradient(low.forward_upsampled, x), gradient(lambda t: exact(doubled(t)), x))
    elif type(low) is QuantLinear:
        torch.testing.assert_close(
            gradient(lambda t: torch.cat(project((low, low), t)), x),
            gradient(lambda t: torch.cat([exact(t)] * 2), x),
        )


def test_layers_under_autocast_may_share_codes_and_stand_beside_others() -> None:
    layers = [balanced(nn.Linear(32, 16), rank=4, seed=0)[0] for _ in range(2)]
    x = torch.randn(5, 32)
    for together in (layers, [*layers, nn.Linear(32, 16)]):
        with torch.autocast("cpu", torch.bfloat16):
            made = project(together, x)
            assert all(torch.equal(y, layer(x)) for y, layer in zip(made, together, strict=True))


def test_a_low_bit_layer_has_the_sizes_of_the_layer_that_it_stands_for(low: QuantLayer) -> None:
    linear = type(low) is QuantLinear
    layer = LAYERS["linear"][0] if linear else LAYERS["pointwise" if isinstance(low, QuantLinear) else "convolution"][0]
    sizes = ["in_features", "out_features"] if linear else [
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode",
    ]  # fmt: skip
    assert [getattr(low, size) for size in sizes] == [getattr(layer, size) for size in sizes]


@pytest.mark.parametrize("backend", AVAILABLE, ids=backend_name)
def test_no_tokens_or_images_give_no_results(low: QuantLayer, x: torch.Tensor, backend) -> None:
    low.prepare(backend)
    for dtype in (torch.float32, torch.bfloat16):
        nothing = low(x[:0].to(dtype))
        assert (nothing.shape, nothing.dtype) == (low(x)[:0].shape, dtype)
    if isinstance(low, QuantConv2d):
        assert low.forward_upsampled(x[:0]).shape == (0, 16, 12, 12)
        assert QuantConv2d((16, 32, 3, 3), low.format, True, (2, 2))(x[:0]).shape == (0, 16, 2, 2)


def test_one_token_or_image_needs_no_batch(low: QuantLayer, x: torch.Tensor) -> None:
    torch.testing.assert_close(low(x[0]), low(x[:1])[0])


@pytest.mark.parametrize("backend", AVAILABLE, ids=backend_name)
def test_float64_is_rounded_as_float32(low: QuantLayer, x: torch.Tensor, backend) -> None:
    low.prepare(backend)
    made = low(x.double())
    assert made.dtype == torch.float64
    torch.testing.assert_close(made.float(), low(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_what_is_stored_does_not_follow_the_default_dtype(dtype: torch.dtype) -> None:
    form = LayerFormat(4, 4, block=1, rank=2, branch_bits=8)
    expected = [(name, buffer.dtype) for name, buffer in QuantLinear((8, 8), form, True).named_buffers()]
    down, _ = low_rank(torch.eye(8), 2, seed=0)
    try:
        torch.set_default_dtype(dtype)
        low = QuantLinear((8, 8), form, True)
        assert [(name, buffer.dtype) for name, buffer in low.named_buffers()] == expected
        assert ChannelTransform(low.channel_scale, low.rotation).factors.dtype == torch.float32
        assert torch.equal(low_rank(torch.eye(8, dtype=torch.float32), 2, seed=0)[0], down)
    finally:
        torch.set_default_dtype(torch.float32)
