"""Codes, scales and the clipping search."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.errors import ConfigError
from quantface_core.kernels.quantize import (
    ASYMMETRIC_BITS,
    byte_of_zero,
    code_range,
    dequantize,
    largest_code,
    per_channel_scale,
    per_image_scale,
    per_token_scale,
    quantize,
    quantize_activations,
)
from quantface_core.types import BITS, widths_in_words


@pytest.mark.parametrize(("bits", "limit"), [(3, 3), (4, 7), (6, 31), (8, 127)])
def test_codes_are_symmetric(bits: int, limit: int) -> None:
    assert largest_code(bits) == limit
    codes = quantize(torch.linspace(-9, 9, 1001), torch.tensor(0.01), bits)
    assert (int(codes.min()), int(codes.max())) == (-limit, limit)
    assert codes.dtype == torch.int8


@settings(max_examples=60, deadline=None)
@given(st.integers(BITS.start, ASYMMETRIC_BITS), st.floats(0, 0.5), st.integers(0, 2**31))
def test_codes_with_a_zero_point_stay_in_range_with_half_a_step_of_error(bits: int, share: float, seed: int) -> None:
    zero_point = round(share * 2**bits)
    lowest, highest = code_range(bits, zero_point)
    assert highest - lowest == 2**bits - 1
    assert lowest == -zero_point == -byte_of_zero(bits, zero_point)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(seed))
    scale = per_token_scale(x, bits, 1.0, zero_point)
    codes = quantize(x, scale, bits, zero_point)
    assert int(codes.min()) >= lowest
    assert int(codes.max()) <= highest
    reached = (x / scale >= lowest) & (x / scale <= highest)
    assert ((dequantize(codes, scale) - x).abs() <= scale * 0.5001)[reached].all()


def test_one_sided_values_lose_less_with_few_codes_below_zero() -> None:
    x = torch.nn.functional.silu(torch.randn(64, 256, generator=torch.Generator().manual_seed(0)) * 2)
    errors = []
    for zero_point in (None, 8, 2):
        scale = per_token_scale(x, 4, 1.0, zero_point)
        errors.append(float((dequantize(quantize(x, scale, 4, zero_point), scale) - x).square().mean()))
    assert errors[2] < errors[1] / 2 < errors[0]


@pytest.mark.parametrize(("bits", "zero_point"), [(4, -1), (4, 9), (6, 33), (8, 0), (8, 128)])
def test_zero_points_out_of_bounds_are_refused(bits: int, zero_point: int) -> None:
    with pytest.raises(ConfigError, match="zero point"):
        code_range(bits, zero_point)


@pytest.mark.parametrize("bits", [0, 1, BITS.start - 1, 9, 99])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"widths are {widths_in_words()}"):
        largest_code(bits)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(BITS)), st.integers(0, 2**31), st.floats(1e-6, 1e6))
def test_without_clipping_the_error_is_half_a_step(bits: int, seed: int, magnitude: float) -> None:
    x = torch.randn(4, 6, 33, generator=torch.Generator().manual_seed(seed)) * magnitude
    scale = per_token_scale(x, bits)
    assert scale.shape == (4, 6, 1)
    error = (dequantize(quantize(x, scale, bits), scale) - x).abs()
    assert (error <= scale * 0.5001).all()


def test_scales_are_per_token_and_per_image() -> None:
    x = torch.randn(2, 3, 4, 5)
    louder = x * torch.tensor([1.0, 100.0])[:, None, None, None]
    assert torch.allclose(
        per_image_scale(louder, 4).flatten(), per_image_scale(x, 4).flatten() * torch.tensor([1, 100])
    )
    assert torch.allclose(per_token_scale(x, 4, 0.5) * 2, per_token_scale(x, 4))


@pytest.mark.parametrize(("bits", "zero_point"), [(4, None), (4, 2), (6, None), (7, 64), (8, None)])
def test_bfloat16_is_rounded_half_to_even_too(bits: int, zero_point: int | None) -> None:
    """Values a quarter of a step apart, beyond the largest code; the scale is a power of two."""
    x = (torch.arange(-400, 401) / 4).bfloat16() / 8
    scale = torch.tensor(1 / 8)
    codes = quantize_activations(x, scale, bits, zero_point)
    assert torch.equal(codes, quantize(x, scale, bits, zero_point))


def test_an_images_scale_has_an_inverse_in_bfloat16_where_that_rounds() -> None:
    x = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    for bits in (4, 7):
        inverse = per_image_scale(x, bits).reciprocal()
        torch.testing.assert_close(inverse, inverse.bfloat16().float(), rtol=1e-6, atol=0)
    whole = x.float().abs().amax((1, 2, 3), keepdim=True) / 127
    torch.testing.assert_close(per_image_scale(x, 8), whole, rtol=1e-6, atol=0)


def test_zeros_stay_zeros() -> None:
    zeros = torch.zeros(2, 8)
    assert not quantize(zeros, per_token_scale(zeros, 4), 4).any()
    assert not quantize(zeros, per_channel_scale(zeros, 4), 4).any()


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_clipping_search_beats_the_maximum_and_never_loses(bits: int) -> None:
    weight = torch.randn(32, 16, 3, 3, generator=torch.Generator().manual_seed(0))

    def error(scale: torch.Tensor) -> torch.Tensor:
        return (dequantize(quantize(weight, scale, bits), scale) - weight).square().sum((1, 2, 3))

    searched = per_channel_scale(weight, bits)
    plain = weight.abs().amax((1, 2, 3), keepdim=True) / largest_code(bits)
    assert searched.shape == (32, 1, 1, 1)
    assert (error(searched) <= error(plain) * 1.0001).all()
    if bits <= 4:
        assert error(searched).sum() < 0.85 * error(plain).sum()
