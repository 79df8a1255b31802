"""Activation codes as unsigned bytes, written a piece at a time: the reference's codes plus a zero point."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..quantize import largest_code, offset, rounds_in_bfloat16

_PIECE = 1 << 18  # numbers balanced and rounded at once
_WRITES = (torch.float32, torch.bfloat16)  # dtypes the products can be written in


def zero_point(bits: int) -> int:
    """The byte that stands for zero."""
    return largest_code(bits) + 1


def pieces(rows: Tensor) -> Iterator[slice]:
    """Slices over the first dimension that hold about as many numbers as the cache does."""
    step = max(1, _PIECE // max(1, rows[0].numel()))
    return (slice(start, start + step) for start in range(0, len(rows), step))


def write_token_codes(balanced: Tensor, scale: Tensor, bits: int, out: Tensor) -> None:
    """Codes as `quantize.quantize_tokens` rounds them, [N, K]; scale [N, 1]."""
    if rounds_in_bfloat16(balanced.dtype, bits):
        _write_steps(torch.div(balanced, scale).add_(offset(bits)), bits, out)
    else:
        _write_rounded(balanced, scale, bits, out)


def write_image_codes(balanced: Tensor, scale: Tensor, bits: int, out: Tensor) -> None:
    """Codes as `quantize.quantize_image` rounds them, any shape; one scale."""
    if rounds_in_bfloat16(balanced.dtype, bits):
        middle = torch.tensor(offset(bits), dtype=balanced.dtype)
        _write_steps(torch.add(middle, balanced, alpha=float(scale.reciprocal())), bits, out)
    else:
        _write_rounded(balanced, scale, bits, out)


def _write_steps(steps: Tensor, bits: int, out: Tensor) -> None:
    limit, middle = largest_code(bits), offset(bits)
    # The low byte of 128 + k is k: read as short integers, it is cut off faster than any float is converted.
    out.copy_(steps.clamp_(middle - limit, middle + limit).view(torch.int16))


def _write_rounded(balanced: Tensor, scale: Tensor, bits: int, out: Tensor) -> None:
    limit = largest_code(bits)
    out.copy_(torch.div(balanced, scale.float()).round_().clamp_(-limit, limit).add_(zero_point(bits)))


def write_dtype(x: Tensor) -> torch.dtype:
    """The dtype a product for x is written in."""
    return x.dtype if x.dtype in _WRITES else torch.float32
