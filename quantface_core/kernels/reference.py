"""The reference backend: exact integer products in plain torch, on any device (docs/method.md, section 6).

It defines the results. Every faster backend must compute the same integer sums (`half` rounds them to 11
bits); the float result may then differ only by rounding of the two scales.

Products run in float32, because not every device has integer ones (CUDA and MPS lack the convolutions). They
are exact all the same: codes are small integers, and float32 adds integers without error while sums stay below
2^24. The inputs are split so that they do.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import Conv2dSpec, LinearSpec
from .quantize import largest_code, per_image_scale, per_token_scale, quantize_activations

_EXACT = (1 << 24) - 1  # up to here float32 represents every integer
_IMAGES = 15  # more at once are NNPACK's on CPUs without oneDNN (Macs): its transforms round sums of 8-bit codes


def _inputs_per_sum(activation_bits: int, weight_bits: int) -> int:
    """How many products of codes may be added in float32 without rounding, whatever the zero point."""
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
    """Integer sums of a convolution: codes x [B, C, H, W] and weight [O, C, kh, kw], int8 -> int32 maps, exact."""
    taps = weight.shape[2] * weight.shape[3]
    step = max(1, _inputs_per_sum(activation_bits, weight_bits) // taps)
    parts = zip(x.split(step, dim=1), weight.split(step, dim=1), strict=True)
    sums = (_whole(_convolved(a.float(), b.float(), stride, padding)) for a, b in parts)
    return sum(sums, start=_nothing(x))


def _convolved(x: Tensor, weight: Tensor, stride: int | tuple[int, int], padding: int | tuple[int, int]) -> Tensor:
    if x.device.type != "cpu" or len(x) <= _IMAGES:
        return F.conv2d(x, weight, None, stride, padding)
    return torch.cat([F.conv2d(images, weight, None, stride, padding) for images in x.split(_IMAGES)])


def _whole(sums: Tensor) -> Tensor:
    """Float sums of integers as int32; rounded, because convolutions that a library transforms may return 1233.9998."""
    return sums.round_().to(torch.int32)


def _nothing(x: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.int32, device=x.device)


def product_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums times weight scales, before token scales, for a result in a dtype: float16 could overflow."""
    return torch.float32 if dtype == torch.float16 else dtype


def scale_rows(product: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Rows [N, O] times per-token scales [N, 1], plus bias [O], in the dtype of the scales; overwrites `product`."""
    by = scale.to(product.dtype)
    if bias is None:
        return product.mul_(by).to(scale.dtype)
    return torch.addcmul(bias.to(product.dtype), product, by, out=product).to(scale.dtype)


def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device: always None, it runs on any."""
    return None


def supports(weight_bits: int, activation_bits: int) -> bool:
    """Whether products of codes of these widths are exact: always."""
    return True


class Linear:
    """A low-bit linear: x [N, K] -> [N, O] in the dtype of x. Weights are unpacked at every call."""

    def __init__(self, spec: LinearSpec) -> None:
        self.weight, self.activations = spec.weight, spec.activations
        self.bias, self.transform = spec.bias, spec.transform

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [N, K] and per-token scales [N, 1] in the dtype of x."""
        balanced = self.transform(x) if self.transform else x
        scale = per_token_scale(balanced, *self.activations)
        return quantize_activations(balanced, scale, self.activations.bits, self.activations.zero_point), scale

    def product(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The layer's result [N, O] from codes and scales, in the dtype of the scales."""
        sums = linear_sums(codes, self.weight.codes(), self.activations.bits, self.weight.bits)
        return scale_rows((sums.float() * self.weight.scale.float()).to(product_dtype(scale.dtype)), scale, self.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(*self.codes(x))


class Conv2d:
    """A low-bit convolution: x [B, C, H, W] -> [B, O, H', W'] in the dtype of x; otherwise as `Linear`."""

    def __init__(self, spec: Conv2dSpec) -> None:
        self.weight, self.activations = spec.weight, spec.activations
        self.bias, self.transform = spec.bias, spec.transform
        self.stride, self.padding = spec.stride, spec.padding

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [B, C, H, W] and per-image scales [B, 1, 1, 1]."""
        # The channel transform is the same at every tap, and zero padding stays zero.
        balanced = self.transform(x.movedim(1, -1)).movedim(-1, 1) if self.transform else x
        scale = per_image_scale(balanced, *self.activations)
        return quantize_activations(balanced, scale, self.activations.bits, self.activations.zero_point), scale

    def __call__(self, x: Tensor) -> Tensor:
        codes, scale = self.codes(x)
        sums = conv2d_sums(
            codes, self.weight.codes(), self.activations.bits, self.weight.bits, self.stride, self.padding
        )
        product = sums.float() * (self.weight.scale.float()[:, None, None] * scale)
        return (product if self.bias is None else product + self.bias[:, None, None]).to(x.dtype)

    def forward_upsampled(self, x: Tensor) -> Tensor:
        """The convolution of x upsampled 2x (nearest neighbour): [B, C, H, W] -> [B, O, 2 H', 2 W']."""
        return self(F.interpolate(x, scale_factor=2.0, mode="nearest"))
