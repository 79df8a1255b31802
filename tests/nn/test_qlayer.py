"""Low-bit layers against the exact layers they stand for, and in the places they take."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quantface_core.errors import ConfigError
from quantface_core.kernels.dispatch import backend_name
from quantface_core.nn.qconv2d import QuantConv2d
from quantface_core.nn.qlinear import QuantLinear, project
from quantface_core.nn.swap import empty_like, is_pointwise, quant_layers, quantizable, swap
from quantface_core.types import LayerFormat
from tests.nn.layers import AVAILABLE, balanced


@settings(max_examples=20, deadline=None)
@given(
    channels=st.integers(1, 70), outputs=st.integers(1, 40), rank=st.sampled_from([0, 3]), bias=st.booleans(),
    tokens=st.sampled_from([(1,), (5,), (2, 7)]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_linear_of_many_bits_is_close_to_the_exact_one(channels, outputs, rank, bias, tokens, seed) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(channels, outputs, bias)
    low, weight = balanced(layer, rank, seed)
    x = torch.randn(*tokens, channels)
    exact = layer(x).detach()
    for backend in AVAILABLE:
        low.prepare(backend)
        y = low(x)
        assert y.shape == exact.shape
        assert float((y - exact).norm()) < 0.05 * float(x.norm()) * float(weight.norm()) + 1e-4


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (3, 2, 1), (3, 2, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rank", [0, 4])
def test_a_convolution_of_many_bits_is_close_to_the_exact_one(kernel, stride, padding, dtype, rank) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(48, 20, kernel, stride, padding)
    low, _ = balanced(layer, rank, 1)
    x = torch.randn(2, 48, 17, 15).to(dtype)
    exact = layer(x.float()).detach()
    for backend in AVAILABLE:
        low.prepare(backend)
        y = low(x)
        assert y.dtype == dtype
        assert y.shape == exact.shape
        assert float((y.float() - exact).norm() / exact.norm()) < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rank", [0, 4])
def test_a_pointwise_convolution_is_a_linear_over_pixels(dtype, rank) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(48, 20, 1)
    low, _ = balanced(layer, rank, 1, per_pixel=True)
    x = torch.randn(2, 48, 17, 15).to(dtype)
    x[:, :, 3, 5] *= 100  # all else would have no codes but zero at an image's scale
    for backend in AVAILABLE:
        low.prepare(backend)
        y = low(x)
        exact = layer(x.float()).detach()
        assert (y.dtype, y.shape) == (dtype, exact.shape)
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert float(((y.float() - exact).norm(dim=1) / exact.norm(dim=1)).max()) < 0.05
        # The branch's float sums depend on how many rows they are of.
        torch.testing.assert_close(low(x[:, :, 5:7, 5:7]), y[:, :, 5:7, 5:7])


@pytest.mark.parametrize(("settings", "alone"), [({}, True), ({"stride": 2}, False), ({"padding": 1}, False)])
def test_pixels_are_rounded_alone_only_where_each_gives_one(settings: dict[str, int], alone: bool) -> None:
    assert is_pointwise(nn.Conv2d(16, 8, 1, **settings)) == alone


def test_backends_give_the_same_bits() -> None:
    """Later codes depend on earlier outputs: a difference in the last place would grow into other pictures."""
    torch.manual_seed(0)
    x, maps = torch.randn(33, 64), torch.randn(2, 64, 16, 16).contiguous(memory_format=torch.channels_last)
    pointwise = nn.Conv2d(64, 48, 1)
    for layer, value in ((nn.Linear(64, 48), x), (nn.Conv2d(64, 48, 3, padding=1), maps), (pointwise, maps)):
        low, _ = balanced(layer, 4, 2, per_pixel=layer is pointwise)
        results = []
        for backend in AVAILABLE:
            low.prepare(backend)
            results.append(low(value))
        assert all(torch.equal(result, results[0]) for result in results)


def test_an_image_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    low, _ = balanced(nn.Conv2d(32, 16, 3, padding=1), 4, 3)
    maps = torch.randn(3, 32, 8, 8)
    maps[1] *= 100
    # Not bit for bit: torch sums a convolution of another batch in another order on some processors.
    torch.testing.assert_close(low(maps)[:1], low(maps[:1]), atol=1e-5, rtol=1e-5)


def test_scales_keep_their_dtype_and_copies_compute_the_same() -> None:
    low, _ = balanced(nn.Linear(64, 8), 4, 5)
    x = torch.randn(3, 64)
    expected = low(x)
    twin = copy.deepcopy(low).to(torch.bfloat16)
    assert twin.weight_scale.dtype == torch.float32
    assert twin.packed.dtype == torch.uint8
    assert torch.equal(twin(x), expected)


@pytest.mark.parametrize("layer", [nn.Linear(64, 8), nn.Conv2d(64, 8, 3, padding=1)], ids=["linear", "convolution"])
def test_a_copy_holds_no_more_than_the_layer_did(layer: nn.Module) -> None:
    low, _ = balanced(layer, 4, 5)
    before = len(pickle.dumps(low))
    if isinstance(layer, nn.Conv2d):
        low.fuse_upsample = True
        low.forward_upsampled(torch.randn(1, 64, 6, 6))
    else:
        low(torch.randn(3, 64))
    assert len(pickle.dumps(low)) < 1.2 * before


def test_a_memory_format_leaves_the_branch_as_files_hold_it() -> None:
    low, _ = balanced(nn.Conv2d(64, 8, 3, padding=1), 4, 5)
    low.to(memory_format=torch.channels_last)
    assert all(buffer.is_contiguous() for buffer in low.buffers())


def test_layers_are_emptied_and_shared_as_modules_are() -> None:
    low, _ = balanced(nn.Linear(64, 8), 4, 5)
    x = torch.randn(3, 64)
    expected = low(x)
    low.share_memory()
    assert all(buffer.is_shared() for buffer in low.buffers())
    assert torch.equal(low(x), expected)
    state = {name: value.clone() for name, value in low.state_dict().items()}
    low.to("meta").to_empty(device="cpu").load_state_dict(state)
    assert torch.equal(low(x), expected)


def test_maps_smaller_than_the_kernel_are_refused_as_torch_does() -> None:
    layer = nn.Conv2d(16, 8, 5)
    low, _ = balanced(layer, 4, 5)
    for convolution in (layer, low):
        with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
            convolution(torch.randn(1, 16, 4, 8))


def test_swap_replaces_by_name_and_refuses_unknown_names() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 4, 1))
    assert list(quantizable(model)) == ["0", "2"]
    low = {name: empty_like(layer, LayerFormat(4, 4)) for name, layer in quantizable(model).items()}
    swap(model, low)
    assert quant_layers(model) == low
    assert isinstance(model[0], QuantLinear)
    assert isinstance(model[2], QuantConv2d)
    with pytest.raises(ConfigError, match="not layers that can be quantized: 1"):
        swap(model, {"1": low["0"]})


@pytest.mark.parametrize("backend", AVAILABLE, ids=backend_name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_that_round_alike_round_once(backend, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [balanced(nn.Linear(32, outputs), rank=4, seed=0)[0] for outputs in (24, 32, 32)]
    for layer in layers:
        layer.prepare(backend)
    x = torch.randn(2, 10, 32, dtype=dtype)
    apart, rounded = [layer(x) for layer in layers], []
    codes = backend.Linear.codes
    monkeypatch.setattr(backend.Linear, "codes", lambda kernel, x: rounded.append(x) or codes(kernel, x))
    assert all(torch.equal(a, b) for a, b in zip(project(layers, x), apart, strict=True))
    assert len(rounded) == 1


@pytest.mark.parametrize("other", ["scales", "clip", "float"])
def test_layers_that_round_otherwise_are_called_apart(other: str) -> None:
    layers: list[nn.Module] = [balanced(nn.Linear(32, 16), rank=0, seed=0)[0] for _ in range(2)]
    if other == "float":
        layers[1] = nn.Linear(32, 16)
    elif other == "scales":
        layers[1].channel_scale = layers[1].channel_scale * 2
    else:
        layers[1].format = replace(layers[1].format, clip=0.5)
    x = torch.randn(5, 32)
    assert all(torch.equal(y, layer(x)) for y, layer in zip(project(layers, x), layers, strict=True))


def test_a_remembered_result_is_of_this_input_and_these_weights() -> None:
    layer, x = balanced(nn.Linear(32, 16), rank=4, seed=0)[0], torch.randn(1, 32)
    with torch.no_grad():
        kept = layer.cached(x)
        assert layer.cached(x.clone()) is kept
        assert torch.equal(layer.cached(x * 2), layer(x * 2))
        assert layer.cached(x.bfloat16()).dtype == torch.bfloat16
        layer.cached(x)
        layer.weight_scale = layer.weight_scale * 2
        layer.prepare(AVAILABLE[0])
        assert torch.equal(layer.cached(x), layer(x))
        assert torch.equal(copy.deepcopy(layer).cached(x), layer(x))


@pytest.mark.parametrize("layer", [nn.Linear(32, 16), nn.Conv2d(32, 16, 3, padding=1)], ids=["linear", "convolution"])
def test_a_branch_in_integers_computes_what_its_values_do(layer: nn.Linear | nn.Conv2d) -> None:
    low, _ = balanced(layer, rank=4, seed=0, branch_bits=8)
    assert low.down.dtype == low.up.dtype == torch.int8
    floats = low.like(replace(low.format, branch_bits=16))
    floats.set_branch(*low.stored_branch())
    x = torch.randn(2, 32, 6, 6) if isinstance(layer, nn.Conv2d) else torch.randn(3, 32)
    assert torch.equal(low(x), floats(x))
    before, factors = low(x), torch.linspace(-2, 3, 7)
    low.multiply_outputs(slice(2, 9), factors)
    expected = before.clone()
    expected.movedim(1, -1)[..., 2:9] *= factors
    torch.testing.assert_close(low(x), expected, atol=5e-3, rtol=5e-3)
