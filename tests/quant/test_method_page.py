"""docs/method.md and docs/format.md, equation by equation: NumPy written from these pages computes what layers do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import quantface_core as qf
from quantface_core.kernels import reference
from quantface_core.kernels.quantize import CLIPPING_RATIOS
from quantface_core.nn.qlayer import QuantLayer
from quantface_core.quant.compensate import feedback_codes
from tests.quant.test_format_page import READER

Array = NDArray[np.float64]
PAGE: dict[str, Any] = {}
exec(READER, PAGE)
CONFIG = qf.QuantConfig(rank=3, rounding="nearest", branch="svd", branch_bits=16)


def tensor(layer: QuantLayer, key: str) -> Array:
    return layer.state_dict()[key].numpy().astype(np.float64)


def hadamard_block(layer: QuantLayer) -> Array:
    """D h: signs, then one matrix for every run of channels."""
    channels, block = layer.shape[1], layer.format.block
    if block == 1:
        return np.eye(channels)
    signs = (np.random.PCG64(layer.format.seed).random_raw(channels) >> np.uint64(63)) * 2.0 - 1
    matrix: Array = np.diag(signs) @ np.kron(np.eye(channels // block), PAGE["hadamard"](block))
    return matrix


def rounded(x: Array, layer: QuantLayer, axes: tuple[int, ...]) -> Array:
    """Q(x'): section "Activations" of the format, scales over these axes."""
    bits, z = layer.format.activation_bits, layer.format.zero_point
    low, high = (-z, 2**bits - 1 - z) if z is not None else (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
    largest = np.abs(x).max(axis=axes, keepdims=True)
    scale = np.maximum(layer.format.clip * largest / max(-low, high), 1e-12)
    made: Array = np.clip(np.rint(x / scale), low, high) * scale
    return made


def codes(layer: QuantLayer) -> Array:
    """[O, K, ...] of a weight, from the bit stream."""
    bits, count = layer.format.weight_bits, int(np.prod(layer.shape))
    stream = np.unpackbits(layer.packed.numpy(), count=count * bits, bitorder="little").reshape(count, bits)
    made: Array = (stream @ (1 << np.arange(bits)) - (1 << (bits - 1))).reshape(layer.shape).astype(np.float64)
    return made


def taps(x: Array, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    """[B, H', W', C, kh, kw] of maps [B, C, H, W]: what each output reads, zeros beyond the borders."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    return windows.transpose(0, 2, 3, 1, 4, 5)


def by_the_page(layer: Any, x: Array) -> Array:
    """y = Q(x') W'^T + (x' down^T) up^T + bias."""
    maps = layer.format.per_pixel or len(layer.shape) == 4
    last = np.moveaxis(x, 1, -1) if maps else x
    balanced = (last * tensor(layer, "channel_scale")) @ hadamard_block(layer)
    weight = tensor(layer, "weight_scale").reshape(-1, *[1] * (len(layer.shape) - 1)) * codes(layer)
    down, up = tensor(layer, "down"), tensor(layer, "up")
    if len(layer.shape) == 4:
        read = [np.moveaxis(b, -1, 1) for b in (rounded(balanced, layer, (1, 2, 3)), balanced)]
        inputs, exact = (taps(b, layer.kernel_size, layer.stride, layer.padding) for b in read)
        inputs, exact = (t.reshape(*t.shape[:3], -1) for t in (inputs, exact))
    else:
        inputs, exact = rounded(balanced, layer, (-1,)), balanced
    flat = weight.reshape(len(weight), -1), down.reshape(len(down), -1)
    y = inputs @ flat[0].T + (exact @ flat[1].T) @ up.T
    y = y if layer.bias is None else y + tensor(layer, "bias")
    return np.moveaxis(y, -1, 1) if maps else y


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(24, 10), (2, 5, 24)),
    "odd channels": (lambda: nn.Linear(7, 5, bias=False), (9, 7)),
    "convolution": (lambda: nn.Conv2d(12, 6, 3, padding=1), (2, 12, 6, 5)),
    "strided": (lambda: nn.Conv2d(8, 6, (3, 2), stride=(2, 1), padding=(0, 1)), (2, 8, 7, 6)),
    "pointwise": (lambda: nn.Conv2d(20, 6, 1), (2, 20, 4, 5)),
}


@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("bits", [(3, 3), (4, 4), (8, 8), (5, 7)])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_computes_what_the_pages_say(kind: str, bits: tuple[int, int], zero_points: bool) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    model, x = nn.Sequential(make()).eval(), torch.randn(shape).abs() if zero_points else torch.randn(shape)
    config = replace(CONFIG, weight_bits=bits[0], activation_bits=bits[1], search_zero_point=zero_points)
    qf.quantize(model, [x], config)
    model[0].prefer(reference)
    expected = by_the_page(model[0], x.numpy().astype(np.float64))
    made = model(x).numpy()
    # float32 may round a value that lies between two codes to the other one; a wrong equation is off everywhere.
    wrong = np.abs(made - expected) > 1e-4 * np.abs(expected).max()
    assert made.shape == expected.shape
    assert wrong.mean() < 0.05


def test_channel_scales_are_those_of_section_2() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 10)
    weight = layer.weight.detach().numpy().astype(np.float64)
    batches = [torch.randn(6, 24) * torch.linspace(0.1, 9, 24) for _ in range(3)]
    model = nn.Sequential(layer).eval()
    (report,) = qf.quantize(model, batches, CONFIG)
    assert report.exponent is not None
    largest = np.abs(batches[0].numpy()).max(0).astype(np.float64)
    for batch in batches[1:]:
        largest = 0.9 * largest + 0.1 * np.abs(batch.numpy()).max(0)
    s = largest**report.exponent / np.abs(weight).max(0) ** (1 - report.exponent)
    s /= np.exp(np.log(s).mean())
    np.testing.assert_allclose(1 / tensor(model[0], "channel_scale"), s, rtol=1e-5)


def test_weight_scales_are_those_of_least_squared_error() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 10)
    weight = layer.weight.detach().numpy().astype(np.float64)
    model = nn.Sequential(layer).eval()
    qf.quantize(model, [torch.randn(6, 24)], replace(CONFIG, rank=0, scaling=False, search_rotation=False))
    balanced = weight @ hadamard_block(model[0])
    for row, scale, found in zip(balanced, tensor(model[0], "weight_scale"), codes(model[0]), strict=True):
        tried = [ratio * np.abs(row).max() / 7 for ratio in CLIPPING_RATIOS]
        errors = [np.square(np.clip(np.rint(row / s), -7, 7) * s - row).sum() for s in tried]
        assert scale == pytest.approx(tried[int(np.argmin(errors))], rel=1e-5)
        assert np.array_equal(found, np.clip(np.rint(row / scale), -7, 7))


def one_by_one(steps: Array, bits: int, moments: Array) -> Array:
    """GPTQ as its paper has it: round a column, spread its error by the inverse moments of the columns that remain."""
    limit, steps, made = 2 ** (bits - 1) - 1, steps.copy(), np.zeros_like(steps)
    damped = moments + 0.01 * np.diag(moments).mean() * np.eye(len(moments))
    remaining = list(np.argsort(-np.diag(moments), kind="stable"))
    while remaining:
        inverse, first = np.linalg.inv(damped[np.ix_(remaining, remaining)]), remaining[0]
        made[:, first] = np.clip(np.rint(steps[:, first]), -limit, limit)
        error = (steps[:, first] - made[:, first]) / inverse[0, 0]
        steps[:, remaining] -= error[:, None] * inverse[0]
        remaining = remaining[1:]
    return made


@pytest.mark.parametrize("seed", range(3))
def test_columns_are_rounded_in_the_order_of_gptq(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, 70)) @ rng.normal(size=(70, 70))  # more columns than a block
    steps, moments = rng.normal(size=(5, 70)) * 3, x.T @ x
    made = feedback_codes(torch.from_numpy(steps), 4, torch.from_numpy(moments))
    assert np.array_equal(made.numpy(), one_by_one(steps, 4, moments))
