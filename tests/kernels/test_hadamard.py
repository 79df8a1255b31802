"""Hadamard matrices and the rotations made of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.errors import ConfigError
from quantface_core.kernels.hadamard import (
    Rotation,
    hadamard,
    has_hadamard,
    largest_block,
    random_signs,
    rotate,
    unrotate,
)

ORDERS = [1, 2, 4, 12, 16, 20, 24, 40, 64, 144, 240, 256, 320]
# Channel counts of SD 2.1's UNet and autoencoder, of quantface-mini, and awkward ones.
CHANNELS = [3, 4, 8, 32, 64, 96, 128, 192, 320, 512, 640, 960, 1280, 1920, 2560, 5120, 77, 100, 1]


@pytest.mark.parametrize("order", ORDERS)
def test_matrix_is_orthogonal_and_flat(order: int) -> None:
    h = hadamard(order)
    assert torch.allclose(h @ h.t(), torch.eye(order, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(h.abs(), torch.full_like(h, order**-0.5))


@pytest.mark.parametrize("order", [-4, 0, 3, 6, 28, 36, 60])
def test_unknown_orders_are_refused(order: int) -> None:
    assert not has_hadamard(order)
    with pytest.raises(ConfigError, match=f"order {order}"):
        hadamard(order)


@pytest.mark.parametrize("channels", CHANNELS)
def test_every_channel_count_has_a_block(channels: int) -> None:
    block = largest_block(channels)
    assert channels % block == 0
    assert has_hadamard(block)
    assert block == 64 or channels % 64 or channels < 64
    if channels % 2:
        assert block == 1


def test_every_sd_width_has_a_full_block() -> None:
    for channels in (320, 640, 960, 1280, 1920, 2560, 5120):
        assert largest_block(channels, channels) == channels


rotations = st.builds(
    lambda block, copies, seed: Rotation(block * copies, block, seed),
    st.sampled_from([1, 2, 4, 12, 20, 24, 64]),
    st.integers(1, 4),
    st.integers(0, 2**40),
)


@settings(max_examples=60, deadline=None)
@given(rotations, st.integers(0, 2**31))
def test_rotation_preserves_the_product(rotation: Rotation, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 3, rotation.channels, generator=generator)
    weight = torch.randn(7, rotation.channels, generator=generator)
    expected = x @ weight.t()
    product = rotate(x, rotation) @ rotate(weight, rotation).t()
    assert (product - expected).abs().max() <= 1e-5 * max(1.0, float(x.norm(dim=-1).max() * weight.norm(dim=-1).max()))


@settings(max_examples=40, deadline=None)
@given(rotations)
def test_unrotate_is_the_inverse_along_any_axis(rotation: Rotation) -> None:
    x = torch.randn(2, rotation.channels, 3, 2, dtype=torch.float64)
    assert torch.allclose(unrotate(rotate(x, rotation, 1), rotation, 1), x, atol=1e-12)


def test_a_channel_rotation_commutes_with_a_convolution() -> None:
    rotation = Rotation(24, 12, 3)
    x, weight = torch.randn(2, 24, 9, 9), torch.randn(5, 24, 3, 3)
    expected = torch.nn.functional.conv2d(x, weight, stride=2, padding=1)
    turned = torch.nn.functional.conv2d(rotate(x, rotation, 1), rotate(weight, rotation, 1), stride=2, padding=1)
    assert torch.allclose(turned, expected, atol=1e-4)


def test_an_outlier_is_spread_over_its_block() -> None:
    x = torch.zeros(128)
    x[70] = 8.0
    turned = rotate(x, Rotation(128, 64, 1))
    assert torch.allclose(turned.abs(), torch.cat([torch.zeros(64), torch.ones(64)]), atol=1e-6)


def test_signs_never_change() -> None:
    """A checkpoint stores only the seed: these signs may never change."""
    assert random_signs(16, 0).tolist() == PINNED
    assert random_signs(16, 0).tolist() == random_signs(64, 0)[:16].tolist()
    assert random_signs(64, 0).tolist() != random_signs(64, 1).tolist()
    assert abs(float(random_signs(10_000, 5).mean())) < 0.05


PINNED = [1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0]


def test_another_channel_count_is_refused() -> None:
    with pytest.raises(ConfigError, match="64 channels cannot be applied to 63"):
        rotate(torch.zeros(2, 63), Rotation(64, 64, 0))
