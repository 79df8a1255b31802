"""Quantizers: floats to small integers and their scales (docs/method.md, section 3).

A code is an integer in [-(2^(b-1) - 1), 2^(b-1) - 1], stored as int8; a value is its code times a scale.
Activations may have a zero point z: all 2^b codes are used then, z of them below zero, [-z, 2^b - 1 - z]. The zero
point is already subtracted from these codes, so the product needs no correction.
Weights have per-output-channel scales, found once by a clipping search. Activations have per-token (linears),
per-pixel (1x1 convolutions) or per-image scales (other convolutions), computed at every call from the largest
magnitude and a clipping ratio.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError
from ..types import check_bits
from .balance import per_row

CLIPPING_RATIOS = tuple(round(1.0 - 0.05 * step, 2) for step in range(13))  # 1.0 (no clipping) to 0.4
ASYMMETRIC_BITS = 7  # the most bits of codes with a zero point: int8 holds them at any zero point
_PIECE = 1 << 18  # weights searched at once
_BFLOAT16_BITS = 7  # bfloat16's values from 128 to 256 are the 128 integers there
_SMALLEST = 1e-12  # scale of an all-zero channel or token (or the dtype's smallest): at any scale, its codes are zero


def largest_code(bits: int) -> int:
    """The largest code of a width: 7 at 4 bits. Raises ConfigError for a width outside `types.BITS`."""
    check_bits(bits)
    return (1 << (bits - 1)) - 1


def code_range(bits: int, zero_point: int | None = None) -> tuple[int, int]:
    """The lowest and the highest code of a width; a zero point of None = symmetric.

    Zero points are 0 to 2^(bits - 1), at `ASYMMETRIC_BITS` bits or fewer. Raises ConfigError for others, and for a
    width outside `BITS`.
    """
    limit = largest_code(bits)
    if zero_point is None:
        return -limit, limit
    if bits > ASYMMETRIC_BITS or not 0 <= zero_point <= limit + 1:
        most = f"from 0 to {limit + 1}" if bits <= ASYMMETRIC_BITS else "None"
        raise ConfigError(f"at {bits} bits the zero point must be {most}, got {zero_point}")
    return -zero_point, (1 << bits) - 1 - zero_point


def largest_magnitude(bits: int, zero_point: int | None = None) -> int:
    """The largest magnitude of a code: what the largest value is mapped to, at a clipping ratio of 1."""
    lowest, highest = code_range(bits, zero_point)
    return max(-lowest, highest)


def quantize(x: Tensor, scale: Tensor, bits: int, zero_point: int | None = None) -> Tensor:
    """Codes of x, int8: x over scale, rounded half to even and clipped; `scale` broadcasts against x."""
    return (x.float() / scale.float()).round_().clamp_(*code_range(bits, zero_point)).to(torch.int8)


def dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    """Values of codes, in the scale's dtype."""
    return codes.to(scale.dtype) * scale


def per_token_scale(x: Tensor, bits: int, clip: float = 1.0, zero_point: int | None = None) -> Tensor:
    """Dynamic per-token activation scales of a linear: x [..., C] -> [..., 1] in the dtype of x."""
    return _scale(largest_of_token(x), largest_magnitude(bits, zero_point), clip)


def largest_of_token(x: Tensor) -> Tensor:
    """The largest magnitude of each token: x [..., C] -> [..., 1]."""
    if x.dtype != torch.bfloat16:
        # Two passes over x: quicker than one over a copy of its magnitudes.
        return torch.maximum(x.amax(dim=-1, keepdim=True), x.amin(dim=-1, keepdim=True).neg_())
    # Without the sign, the bits of floats sort as the floats do: three times faster than comparing floats.
    return x.view(torch.int16).bitwise_and(0x7FFF).amax(dim=-1, keepdim=True).view(torch.bfloat16)


def per_image_scale(x: Tensor, bits: int, clip: float = 1.0, zero_point: int | None = None) -> Tensor:
    """Dynamic per-image activation scales of a convolution: x [B, C, H, W] -> [B, 1, 1, 1] float32.

    Where `quantize_activations` rounds in bfloat16, the inverse of the scale is exact in bfloat16.
    """
    scale = _scale(x.abs().amax(dim=(1, 2, 3), keepdim=True).float(), largest_magnitude(bits, zero_point), clip)
    return scale.reciprocal().to(x.dtype).float().reciprocal() if rounds_in_bfloat16(x.dtype, bits) else scale


def rounds_in_bfloat16(dtype: torch.dtype, bits: int) -> bool:
    """Whether activations are rounded to codes by an addition in bfloat16 (see `quantize_activations`)."""
    return dtype == torch.bfloat16 and bits <= _BFLOAT16_BITS


def byte_of_zero(bits: int, zero_point: int | None = None) -> int:
    """The unsigned byte that stands for zero: the zero point, or the offset that makes symmetric codes positive."""
    return largest_code(bits) + 1 if zero_point is None else zero_point


def offset(bits: int, zero_point: int | None = None) -> int:
    """What is added to x / scale for bfloat16 to round it to an integer, 128 or more, unless it will be clipped."""
    return 128 + byte_of_zero(bits, zero_point)


def quantize_activations(x: Tensor, scale: Tensor, bits: int, zero_point: int | None = None) -> Tensor:
    """Codes of tokens or images, int8: as `quantize`, but x in bfloat16 is rounded by an addition, up to 7 bits.

    From 128 to 256, bfloat16 has exactly the integers: a sum in that range is rounded to one, half to even, and a
    backend reads its code from the low byte, in half the passes over memory.
    """
    if not rounds_in_bfloat16(x.dtype, bits):
        return quantize(x, scale, bits, zero_point)
    (lowest, highest), middle = code_range(bits, zero_point), offset(bits, zero_point)
    steps = (x.float() * scale.reciprocal().to(x.dtype).float() + middle).to(x.dtype)
    return (steps.clamp_(middle + lowest, middle + highest) - middle).to(torch.int8)


def smallest_scale(dtype: torch.dtype) -> float:
    """The scale of a channel, token or image whose values are all zero, or nearly so."""
    return max(_SMALLEST, torch.finfo(dtype).tiny)


def _scale(largest: Tensor, code: int, clip: float) -> Tensor:
    return (largest * (clip / code)).clamp_min(smallest_scale(largest.dtype))


def per_channel_scale(weight: Tensor, bits: int) -> Tensor:
    """Weight scales of least squared error over CLIPPING_RATIOS: weight [O, ...] -> [O, 1, ...] float32.

    Ties keep the larger ratio.
    """
    flat = weight.flatten(1)
    step = max(1, _PIECE // flat.shape[1])
    best = [_least_error_scale(rows.float(), bits) for rows in flat.split(step)]
    return per_row(torch.cat(best), weight)


def _least_error_scale(rows: Tensor, bits: int) -> Tensor:
    """Scales [N, 1] of rows [N, K], few enough to stay in the cache through the search."""
    largest = rows.abs().amax(dim=1, keepdim=True)
    code = largest_code(bits)
    best, least = _scale(largest, code, 1.0), torch.full_like(largest, float("inf"))
    for ratio in CLIPPING_RATIOS:
        scale = _scale(largest, code, ratio)
        steps = rows / scale
        missed = steps.round().clamp_(-code, code).sub_(steps)
        error = torch.linalg.vector_norm(missed, dim=1, keepdim=True) * scale
        better = error < least
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best
