"""Symmetric quantizers: real numbers to small integers and the scale between (DESIGN.md section 3.2).

A code is a whole number in [-(2^(b-1) - 1), 2^(b-1) - 1], kept in int8; a value is its code times a scale.
Weights have one scale per output channel, found once by a clipping search. Activations have one per token
(linears) or per image (convolutions), found at every call from the largest magnitude and a clipping ratio.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError
from ..types import BITS, widths_in_words

CLIPPING_RATIOS = tuple(round(1.0 - 0.05 * step, 2) for step in range(13))  # 1.0 (no clipping) to 0.4
_PIECE = 1 << 18  # weights searched at once
_BFLOAT16_BITS = 7  # its numbers from 128 to 256 are 128 whole ones
_SMALLEST = 1e-12  # (or the dtype's smallest) scale of an all-zero channel or token: its codes are zero whatever it is


def largest_code(bits: int) -> int:
    """The largest code of a width: 7 at 4 bits. Raises ConfigError for a width out of `BITS`."""
    if bits not in BITS:
        raise ConfigError(f"widths are {widths_in_words()}, got {bits}")
    return (1 << (bits - 1)) - 1


def quantize(x: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Codes of x, int8: x over scale, rounded half to even and clipped; `scale` broadcasts against x."""
    limit = largest_code(bits)
    return (x.float() / scale.float()).round_().clamp_(-limit, limit).to(torch.int8)


def dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    """Values of codes, in the scale's dtype."""
    return codes.to(scale.dtype) * scale


def per_token_scale(x: Tensor, bits: int, clip: float = 1.0) -> Tensor:
    """Dynamic activation scales of a linear: x [..., C] -> [..., 1] in the dtype of x, which they multiply."""
    return _scale(_largest_of_token(x), bits, clip)


def _largest_of_token(x: Tensor) -> Tensor:
    """The largest magnitude along the last dimension, kept."""
    if x.dtype != torch.bfloat16:
        # Twice over what is there: quicker than once over a copy of its magnitudes.
        return torch.maximum(x.amax(dim=-1, keepdim=True), x.amin(dim=-1, keepdim=True).neg_())
    # Without the sign, the bits of floats have the floats' order: three times faster than comparing them.
    return x.view(torch.int16).bitwise_and(0x7FFF).amax(dim=-1, keepdim=True).view(torch.bfloat16)


def per_image_scale(x: Tensor, bits: int, clip: float = 1.0) -> Tensor:
    """Dynamic activation scales of a convolution: x [B, C, H, W] -> [B, 1, 1, 1] float32.

    Where `quantize_activations` rounds in bfloat16, the scale's inverse is a bfloat16 number.
    """
    scale = _scale(x.abs().amax(dim=(1, 2, 3), keepdim=True).float(), bits, clip)
    return scale.reciprocal().to(x.dtype).float().reciprocal() if rounds_in_bfloat16(x.dtype, bits) else scale


def rounds_in_bfloat16(dtype: torch.dtype, bits: int) -> bool:
    """Whether activations' codes are found by an addition in bfloat16 (see `quantize_activations`)."""
    return dtype == torch.bfloat16 and bits <= _BFLOAT16_BITS


def offset(bits: int) -> int:
    """What is added to values in steps so that bfloat16 rounds them to whole numbers, all above 128."""
    return 128 + largest_code(bits) + 1


def quantize_activations(x: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Codes of tokens or images, int8: as `quantize`, but x in bfloat16 is rounded by an addition.

    From 128 to 256 bfloat16 holds exactly the whole numbers: a sum that falls there is rounded to one, half to
    even, and a backend reads its code off the low byte, in half the passes over memory.
    """
    if not rounds_in_bfloat16(x.dtype, bits):
        return quantize(x, scale, bits)
    limit, middle = largest_code(bits), offset(bits)
    steps = (x.float() * scale.reciprocal().to(x.dtype).float() + middle).to(x.dtype)
    return (steps.clamp_(middle - limit, middle + limit) - middle).to(torch.int8)


def smallest_scale(dtype: torch.dtype) -> float:
    """The scale of a channel, token or image whose values are all zero, or nearly."""
    return max(_SMALLEST, torch.finfo(dtype).tiny)


def _scale(largest: Tensor, bits: int, clip: float) -> Tensor:
    return (largest * (clip / largest_code(bits))).clamp_min(smallest_scale(largest.dtype))


def per_channel_scale(weight: Tensor, bits: int) -> Tensor:
    """Weight scales of least squared error over CLIPPING_RATIOS: weight [O, ...] -> [O, 1, ...].

    Ties keep the larger ratio.
    """
    flat = weight.flatten(1)
    step = max(1, _PIECE // flat.shape[1])
    best = [_least_error_scale(rows.float(), bits) for rows in flat.split(step)]
    return torch.cat(best).reshape(-1, *[1] * (weight.ndim - 1))


def _least_error_scale(rows: Tensor, bits: int) -> Tensor:
    """Scales [N, 1] of rows [N, K], few enough to stay in the cache through the search."""
    largest = rows.abs().amax(dim=1, keepdim=True)
    best, least = _scale(largest, bits, 1.0), torch.full_like(largest, float("inf"))
    for ratio in CLIPPING_RATIOS:
        scale = _scale(largest, bits, ratio)
        error = (dequantize(quantize(rows, scale, bits), scale) - rows).square().sum(1, keepdim=True)
        better = error < least
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best
