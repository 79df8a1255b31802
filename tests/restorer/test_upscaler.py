"""Upscaling in tiles: the same picture as in one piece, at the network's scale or resampled to another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quantface_core.errors import QuantFaceError
from quantface_core.restorer.upscaler import Upscaler


class Doubling(nn.Module):
    """Doubles by bicubic interpolation, after a convolution that sees three pixels to each side."""

    def __init__(self) -> None:
        super().__init__()
        kernel = torch.rand(3, 1, 7, 7, generator=torch.Generator().manual_seed(0))
        self.kernel = nn.Parameter(kernel / kernel.sum((2, 3), keepdim=True), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = F.pad(x.float(), (3, 3, 3, 3), mode="replicate").to(x.dtype)  # torch 2.4 pads no float16 on a CPU
        seen = F.conv2d(padded, self.kernel, groups=3)
        return F.interpolate(seen, scale_factor=2.0, mode="bicubic", align_corners=False)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**16, (300, 530, 3), np.uint16)


@pytest.mark.parametrize("factor", [2, 4])
def test_tiles_join_without_a_seam(photo: np.ndarray, factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler, done = Upscaler(Doubling(), 2), list[tuple[int, int]]()
    made = upscaler(photo, factor, lambda *place: done.append(place))
    assert done == [(n, 6) for n in range(1, 7)]
    monkeypatch.setattr("quantface_core.restorer.upscaler._TILE", 1000)
    whole = upscaler(photo, factor)
    assert whole.shape == (300 * factor, 530 * factor, 3)
    assert whole.dtype == np.uint16
    np.testing.assert_array_equal(made, whole)


def test_a_smaller_factor_is_the_mean_of_the_networks_pixels() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    made = Upscaler(nn.Sequential(Doubling(), Doubling()), 4)(photo, 2)
    exact = Upscaler(nn.Sequential(Doubling(), Doubling()), 4)(photo, 4).reshape(24, 2, 40, 2, 3).mean((1, 3))
    assert np.abs(made - exact).max() <= 1


@pytest.mark.parametrize("factor", [2, 4])
def test_gray_stays_gray(photo: np.ndarray, factor: int) -> None:
    """Of a gray photo's file only one channel is written."""
    shown = np.ascontiguousarray(np.repeat(photo[..., :1], 3, axis=2))
    kernel = Doubling().kernel
    made = Upscaler(Doubling(), 2)(shown, factor)
    assert not torch.equal(kernel[0], kernel[1])
    assert np.array_equal(made, np.repeat(made[..., :1], 3, axis=2))
    one = shown.copy()
    one[0, 0, 0] ^= 1
    colored = Upscaler(Doubling(), 2)(one, factor)
    assert np.ptp(colored[-40:], axis=2).max() > 1000
    assert np.abs(colored[-40:].mean(2) - made[-40:, :, 0]).max() <= 1


class Overflowing(Doubling):
    """Bright photos pass through values that float16 does not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x * 2.0**17) / 2.0**17


def test_tiles_that_overflow_in_float16_are_computed_in_float32() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    upscaler = Upscaler(Overflowing(), 2).half()
    made = upscaler(photo, 2)
    assert np.abs(made.astype(int) - Upscaler(Doubling(), 2)(photo, 2)).max() <= 1
    assert upscaler.network.kernel.dtype == torch.float16  # the next tile is tried in float16 again


def test_what_is_not_finite_is_told() -> None:
    broken = Doubling()
    broken.kernel.fill_(torch.inf)
    with pytest.raises(QuantFaceError, match=r"not finite: use another one$"):
        Upscaler(broken, 2)(np.zeros((8, 8, 3), np.uint8), 2)
    assert broken.kernel.dtype == torch.float32
