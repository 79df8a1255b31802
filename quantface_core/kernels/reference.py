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

from .channel_transform import ChannelTransform
from .quantize import largest_code, per_image_scale, per_token_scale, quantize_activations
from .weight import LowBitWeight

_EXACT = (1 << 24) - 1  # largest run of whole numbers that float32 represents


def _inputs_per_sum(activation_bits: int, weight_bits: int) -> int:
    """How many products of codes may be added in float32 without rounding, wherever the zero point is."""
    return _EXACT // (((1 << activation_bits) - 1) * largest_code(weight_bits))


def linear_sums(x: Tensor, weight: Tensor, activation_bits: int, weight_bits: int) -> Tensor:
    """Integer sums of a linear: codes x [..., K] and weight [O, K], int8 -> [..., O] int32, exact."""
    step = _inputs_per_sum(activation_bits, weight_bits)
    parts = zip(x.split(step, dim=-1), weight.split(step, dim=-1), strict=True)
    return sum((_whole(a.float() @ b.float().t()) for a, b in parts), start=_nothing(x))


def conv2d_sums(
    x: Tensor,
    weight: Tensor,
    activation_bits: int,
    weight_bits: int,
    stride: int | tuple[int, int],
    padding: int | tuple[int, int],
) -> Tensor:
    """Integer sums of a convolution: codes x [B, C, H, W] and weight [O, C, kh, kw], int8 -> int32, exact."""
    taps = weight.shape[2] * weight.shape[3]
    step = max(1, _inputs_per_sum(activation_bits, weight_bits) // taps)
    parts = zip(x.split(step, dim=1), weight.split(step, dim=1), strict=True)
    sums = (_whole(F.conv2d(a.float(), b.float(), None, stride, padding)) for a, b in parts)
    return sum(sums, start=_nothing(x))


def _whole(sums: Tensor) -> Tensor:
    """Float sums of whole numbers, int32; rounded: of convolutions that a library transforms they may be 1233.9998."""
    return sums.round_().to(torch.int32)


def _nothing(x: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.int32, device=x.device)


def product_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums times their weights' scales are rounded to, for a result of a dtype: float16 may not hold them yet."""
    return torch.float32 if dtype == torch.float16 else dtype


def scale_rows(product: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Rows [N, O] times their tokens' scales [N, 1], plus bias [O], in the dtype of the scales; the rows are lost."""
    by = scale.to(product.dtype)
    if bias is None:
        return product.mul_(by).to(scale.dtype)
    return torch.addcmul(bias.to(product.dtype), product, by, out=product).to(scale.dtype)


def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device; None = it can. Runs everywhere."""
    return None


def supports(weight_bits: int, activation_bits: int) -> bool:
    """Whether products of such codes come out right: all do."""
    return True


class Linear:
    """A linear at low bits: x [N, K] -> [N, O] in the dtype of x. Weights unpack at every call.

    `transform` balances x first, None = it is balanced; `bias` is [O] float32; `zero_point`: see `code_range`.
    """

    def __init__(
        self,
        weight: LowBitWeight,
        activation_bits: int,
        clip: float,
        bias: Tensor | None = None,
        transform: ChannelTransform | None = None,
        zero_point: int | None = None,
    ) -> None:
        self.weight, self.activation_bits, self.clip = weight, activation_bits, clip
        self.bias, self.transform, self.zero_point = bias, transform, zero_point

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [N, K] and per-token scales [N, 1] in the dtype of x."""
        balanced = self.transform(x) if self.transform else x
        scale = per_token_scale(balanced, self.activation_bits, self.clip, self.zero_point)
        return quantize_activations(balanced, scale, self.activation_bits, self.zero_point), scale

    def product(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The layer's result [N, O] from codes and scales, in the dtype of the scales."""
        sums = linear_sums(codes, self.weight.codes(), self.activation_bits, self.weight.bits)
        return scale_rows((sums.float() * self.weight.scale.float()).to(product_dtype(scale.dtype)), scale, self.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(*self.codes(x))


class Conv2d:
    """A convolution at low bits: x [B, C, H, W] -> [B, O, H', W'] in the dtype of x; else as `Linear`.

    `fuse_upsample` tells a backend that prepares something for it that `forward_upsampled` is what will be called.
    """

    def __init__(
        self,
        weight: LowBitWeight,
        activation_bits: int,
        clip: float,
        stride: tuple[int, int],
        padding: tuple[int, int],
        bias: Tensor | None = None,
        transform: ChannelTransform | None = None,
        fuse_upsample: bool = False,
        zero_point: int | None = None,
    ) -> None:
        self.weight, self.activation_bits, self.clip = weight, activation_bits, clip
        self.bias, self.transform, self.zero_point = bias, transform, zero_point
        self.stride, self.padding = stride, padding

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [B, C, H, W] and per-image scales [B, 1, 1, 1]."""
        # A channel transform is the same at every tap, and zero padding stays zero.
        balanced = self.transform(x.movedim(1, -1)).movedim(-1, 1) if self.transform else x
        scale = per_image_scale(balanced, self.activation_bits, self.clip, self.zero_point)
        return quantize_activations(balanced, scale, self.activation_bits, self.zero_point), scale

    def __call__(self, x: Tensor) -> Tensor:
        codes, scale = self.codes(x)
        sums = conv2d_sums(
            codes, self.weight.codes(), self.activation_bits, self.weight.bits, self.stride, self.padding
        )
        product = sums.float() * (self.weight.scale.float()[:, None, None] * scale)
        return (product if self.bias is None else product + self.bias[:, None, None]).to(x.dtype)

    def forward_upsampled(self, x: Tensor) -> Tensor:
        """The convolution of x with every pixel doubled (nearest neighbour): [B, C, H, W] -> [B, O, 2 H', 2 W']."""
        return self(F.interpolate(x, scale_factor=2.0, mode="nearest"))
