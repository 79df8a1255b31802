"""The reference backend: exact integer products in plain torch, on any device (DESIGN.md section 4).

It defines the numbers. Every faster backend must give the same integer sums; the float result may then
differ by rounding of the two scales only.

Devices without integer matrix products (CUDA's and MPS's convolutions) still compute exactly: codes are
small whole numbers, and float32 adds whole numbers without error while sums stay below 2^24. The inputs
are split so that they do.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .quantize import largest_code, per_image_scale, per_token_scale, quantize
from .weight import LowBitWeight

_EXACT = (1 << 24) - 1  # largest run of whole numbers that float32 represents


def _inputs_per_sum(x_bits: int, weight_bits: int) -> int:
    """How many products of codes may be added in float32 without rounding."""
    return _EXACT // (largest_code(x_bits) * largest_code(weight_bits))


def linear_sums(x: Tensor, weight: Tensor, x_bits: int, weight_bits: int) -> Tensor:
    """Integer sums of a linear: codes x [..., K] and weight [O, K], int8 -> [..., O] int32, exact."""
    step = _inputs_per_sum(x_bits, weight_bits)
    parts = zip(x.split(step, dim=-1), weight.split(step, dim=-1), strict=True)
    return sum(((a.float() @ b.float().t()).to(torch.int32) for a, b in parts), start=_nothing(x))


def conv2d_sums(
    x: Tensor,
    weight: Tensor,
    x_bits: int,
    weight_bits: int,
    stride: int | tuple[int, int],
    padding: int | tuple[int, int],
) -> Tensor:
    """Integer sums of a convolution: codes x [B, C, H, W] and weight [O, C, kh, kw], int8 -> int32, exact."""
    taps = weight.shape[2] * weight.shape[3]
    step = max(1, _inputs_per_sum(x_bits, weight_bits) // taps)
    parts = zip(x.split(step, dim=1), weight.split(step, dim=1), strict=True)
    sums = (F.conv2d(a.float(), b.float(), None, stride, padding).to(torch.int32) for a, b in parts)
    return sum(sums, start=_nothing(x))


def _nothing(x: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.int32, device=x.device)


def scale_sums(sums: Tensor, x_scale: Tensor, weight_scale: Tensor) -> Tensor:
    """Real values of integer sums, float32: both scales broadcast against the sums.

    The weight's scale first: backends that fuse it give the same bits, so that no later code flips.
    """
    return sums.float() * weight_scale.float() * x_scale.float()


def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device; None = it can. Runs everywhere."""
    return None


class Linear:
    """A linear at low bits: balanced x [..., K] -> [..., O] float32. Weights unpack at every call."""

    def __init__(self, weight: LowBitWeight, x_bits: int, clip: float) -> None:
        self.weight, self.x_bits, self.clip = weight, x_bits, clip

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [..., K] and per-token scales [..., 1]."""
        x = x.float()
        scale = per_token_scale(x, self.x_bits, self.clip)
        return quantize(x, scale, self.x_bits), scale

    def __call__(self, x: Tensor) -> Tensor:
        codes, scale = self.codes(x)
        sums = linear_sums(codes, self.weight.codes(), self.x_bits, self.weight.bits)
        return scale_sums(sums, scale, self.weight.scale)


class Conv2d:
    """A convolution at low bits: balanced x [B, C, H, W] -> [B, O, H', W'] float32."""

    def __init__(
        self, weight: LowBitWeight, x_bits: int, clip: float, stride: tuple[int, int], padding: tuple[int, int]
    ) -> None:
        self.weight, self.x_bits, self.clip = weight, x_bits, clip
        self.stride, self.padding = stride, padding

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [B, C, H, W] and per-image scales [B, 1, 1, 1]."""
        x = x.float()
        scale = per_image_scale(x, self.x_bits, self.clip)
        return quantize(x, scale, self.x_bits), scale

    def __call__(self, x: Tensor) -> Tensor:
        codes, scale = self.codes(x)
        sums = conv2d_sums(codes, self.weight.codes(), self.x_bits, self.weight.bits, self.stride, self.padding)
        return scale_sums(sums, scale, self.weight.scale[:, None, None])
