from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.errors import ConfigError
from quantface_core.kernels.quantize import (
    BITS,
    dequantize,
    largest_code,
    per_channel_scale,
    per_image_scale,
    per_token_scale,
    quantize,
)
from quantface_core.types import widths_in_words


@pytest.mark.parametrize(("bits", "limit"), [(3, 3), (4, 7), (6, 31), (8, 127)])
def test_codes_are_symmetric(bits: int, limit: int) -> None:
    assert largest_code(bits) == limit
    codes = quantize(torch.linspace(-9, 9, 1001), torch.tensor(0.01), bits)
    assert (int(codes.min()), int(codes.max())) == (-limit, limit)
    assert codes.dtype == torch.int8


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
