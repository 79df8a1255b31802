"""Channel scales, low-rank branches and how they are stored."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.kernels.balance import (
    branch_codes,
    branch_values,
    branch_weight,
    channel_scale,
    low_rank,
    stored_values,
)
from quantface_core.kernels.hadamard import Rotation, largest_block, rotate


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 96), st.floats(0, 1), st.integers(0, 999))
def test_scaling_and_rotation_leave_the_product(channels: int, exponent: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(7, channels, generator=generator) * torch.rand(channels, generator=generator).mul(4).exp()
    weight = torch.randn(5, channels, generator=generator)
    scale = channel_scale(x.abs().amax(0), weight, exponent)
    rotation = Rotation(channels, largest_block(channels), seed)
    balanced = rotate(x / scale, rotation) @ rotate(weight * scale, rotation).t()
    exact = x.double() @ weight.double().t()
    assert (balanced - exact).norm() <= 1e-5 * exact.norm() + 1e-6


def test_the_channel_scale_weighs_activations_against_weights() -> None:
    activation_max, weight = torch.tensor([1.0, 4.0]), torch.tensor([[2.0, 0.5], [-1.0, 0.25]])
    ratio = torch.tensor([1.0**0.25 / 2.0**0.75, 4.0**0.25 / 0.5**0.75])
    torch.testing.assert_close(channel_scale(activation_max, weight, 0.25), ratio / ratio.prod().sqrt())


def test_a_dead_channel_gets_a_finite_scale() -> None:
    weight = torch.tensor([[1.0, 0.0, 2.0]])
    for largest in (torch.tensor([0.0, 1.0, 9.0]), torch.zeros(3)):
        scale = channel_scale(largest, weight, 0.5)
        assert torch.isfinite(scale).all()
        assert (scale > 0).all()


def test_a_channel_of_zero_weights_is_scaled_as_one_of_tiny_weights() -> None:
    """By its own maximum, zero, it would be scaled without bound, and every other channel with it by their mean."""
    largest = torch.tensor([4.0, 1.0, 9.0])
    dead, faint = (torch.tensor([[1.0, value, 2.0]]) for value in (0.0, 2e-5))
    torch.testing.assert_close(channel_scale(largest, dead, 0.5), channel_scale(largest, faint, 0.5))


@pytest.mark.parametrize("silent", [0.0, 1e-30, 2e-4])
def test_a_silent_channel_is_scaled_as_a_typical_one(silent: float) -> None:
    weight = torch.tensor([[1.0, 2.0, 0.5, 1.0]])
    scale = channel_scale(torch.tensor([1.0, 4.0, silent, 0.01]), weight, 0.75)
    typical = (1.0 * 4.0 * 0.01) ** (1 / 3)
    assert torch.equal(scale, channel_scale(torch.tensor([1.0, 4.0, typical, 0.01]), weight, 0.75))


def test_low_rank_matches_a_full_svd() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 6, 3, 3, generator=generator) * torch.linspace(0.1, 3, 40)[:, None, None, None]
    down, up = low_rank(weight, 8, 0)
    assert (down.shape, up.shape) == ((8, 6, 3, 3), (40, 8))
    rest = weight.flatten(1) - up @ down.flatten(1)
    best = torch.linalg.svdvals(weight.flatten(1))[8:].square().sum().sqrt()
    assert rest.norm() < 1.02 * best
    assert torch.equal(low_rank(weight, 8, 0)[0], down)


def test_low_rank_is_optimal_in_the_given_metric() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, mix = torch.randn(20, 30, generator=generator), torch.randn(20, 20, generator=generator)
    for root in (torch.linalg.cholesky(mix @ mix.t() + torch.eye(20)), torch.linspace(0.1, 3, 20)):
        by = root if root.ndim == 2 else root.diag()
        down, up = low_rank(weight, 5, 0, root)
        plain_down, plain_up = low_rank(weight, 5, 0)
        best = torch.linalg.svdvals(by.t() @ weight)[5:].square().sum().sqrt()
        assert (by.t() @ (weight - up @ down)).norm() < 1.02 * best
        assert (by.t() @ (weight - plain_up @ plain_down)).norm() > 1.02 * best
        assert (weight - up @ down).norm() > (weight - plain_up @ plain_down).norm()


@given(
    rows=st.integers(1, 9), shape=st.sampled_from([(7,), (3, 3, 3)]), size=st.integers(-12, 12), seed=st.integers(0, 99)
)
def test_an_8_bit_branch_is_close_and_round_trips_exactly(
    rows: int, shape: tuple[int, ...], size: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn(rows, *shape, generator=generator) * torch.rand(rows, *[1] * len(shape), generator=generator)
    half = half * 2.0**size
    half[0] = 0
    codes, scale = branch_codes(half)
    values = branch_values(codes, scale)
    assert (codes.dtype, scale.shape, values.dtype) == (torch.int8, (rows,), torch.float16)
    off = (values.float() - half).flatten(1).abs().amax(1)
    assert (off <= scale * 0.57 + 1e-7).all()  # half a step, and what float16 leaves of a row's largest
    assert not values[0].any()
    again = branch_codes(values)
    assert torch.equal(again[0], codes)
    assert torch.equal(again[1], scale)
    assert torch.equal(stored_values(half, 8), values)
    assert torch.equal(stored_values(half, 16), half.half())


@pytest.mark.parametrize("shape", [(), (3, 3)])
def test_a_branch_adds_its_product_to_the_weight(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(4, 16, *shape, generator=generator), torch.randn(8, 4, generator=generator)
    expected = torch.einsum("or,rc...->oc...", up.double(), down.double())
    torch.testing.assert_close(branch_weight(down, up).double(), expected, rtol=1e-5, atol=1e-5)
    assert branch_weight(down.half(), up.half()).dtype == torch.float32
