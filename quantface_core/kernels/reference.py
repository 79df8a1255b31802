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

from .quantize import largest_code

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
    """Real values of integer sums, float32: both scales broadcast against the sums."""
    return sums.float() * (x_scale.float() * weight_scale.float())
