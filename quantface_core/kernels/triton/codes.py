"""Activation codes in one pass over memory: the numbers of `quantize.quantize_activations`, to the bit."""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..quantize import largest_code, offset, rounds_in_bfloat16, smallest_scale
from . import launch

_PIECE = 4096  # numbers of an image that a program rounds
_FEW = 2048  # numbers of tokens that a program rounds at least


def token_codes(x: Tensor, bits: int, clip: float) -> tuple[Tensor, Tensor]:
    """Codes of tokens and their scales: x [N, K], balanced -> [N, K] int8, [N, 1] in the dtype of x."""
    x = x.contiguous()
    count, width = x.shape
    codes, scales = torch.empty_like(x, dtype=torch.int8), x.new_empty(count, 1)
    columns = triton.next_power_of_2(width)
    rows = max(1, _FEW // columns)
    launch.start(
        _token_codes,
        (triton.cdiv(count, rows),),
        x,
        codes,
        scales,
        count,
        width,
        **_numbers(x.dtype, bits, clip),
        ROWS=rows,
        COLUMNS=columns,
    )
    return codes, scales


def image_codes(x: Tensor, bits: int, clip: float) -> tuple[Tensor, Tensor]:
    """Codes of images and their scales: x [B, H, W, C], balanced -> [B, H, W, C] int8, [B] float32."""
    x = x.contiguous()
    batch, count = len(x), x[0].numel()
    largest = torch.linalg.vector_norm(x.view(batch, -1), torch.inf, dim=1)
    codes, scales = torch.empty_like(x, dtype=torch.int8), torch.empty(batch, device=x.device)
    launch.start(
        _image_codes,
        (triton.cdiv(count, _PIECE), batch),
        x,
        largest,
        codes,
        scales,
        count,
        **_numbers(x.dtype, bits, clip),
        PIECE=_PIECE,
    )
    return codes, scales


@cache
def _numbers(dtype: torch.dtype, bits: int, clip: float) -> dict[str, Any]:
    """What both kernels are told of the rounding."""
    limit, sums = largest_code(bits), rounds_in_bfloat16(dtype, bits)
    return {
        "share": clip / limit, "smallest": smallest_scale(dtype), "limit": float(limit),
        "middle": float(offset(bits)) if sums else 0.0, "SUMS": sums,
    }  # fmt: skip


@triton.jit
def _rounded(x, by, limit, middle, SUMS: tl.constexpr):
    """Codes of float32: x over `by`, or with SUMS times it (its inverse), rounded half to even and clipped.

    Sums above `middle`, if there is one, are what bfloat16 would round.
    """
    steps = x * by if SUMS else tl.math.div_rn(x, by + tl.zeros_like(x))
    whole = (steps + middle + 12582912.0) - 12582912.0 - middle  # 1.5 * 2^23: float32 has only whole numbers there
    return tl.minimum(tl.maximum(whole, -limit), limit).to(tl.int8)


@triton.jit(do_not_specialize=["count"])
def _token_codes(
    x, codes, scales, count, width, share, smallest, limit, middle,
    SUMS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row < count)[:, None] & (column < width)[None, :]
    place = row.to(tl.int64)[:, None] * width + column[None, :]
    values = tl.load(x + place, mask=inside, other=0.0)
    dtype = values.dtype
    magnitudes = tl.abs(values.to(tl.float32))
    # A maximum overlooks what is no number; an infinite scale tells on.
    largest = tl.max(tl.where(magnitudes == magnitudes, magnitudes, float("inf")), 1)
    scale = tl.maximum((largest * share).to(dtype).to(tl.float32), smallest).to(dtype)
    tl.store(scales + row, scale, mask=row < count)
    by = scale.to(tl.float32)
    if SUMS:
        by = tl.math.div_rn(tl.full(by.shape, 1.0, tl.float32), by).to(dtype).to(tl.float32)
    tl.store(codes + place, _rounded(values.to(tl.float32), by[:, None], limit, middle, SUMS), mask=inside)


@triton.jit
def _image_codes(
    x, largest, codes, scales, count, share, smallest, limit, middle,
    SUMS: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1)
    place = tl.program_id(0) * PIECE + tl.arange(0, PIECE)
    inside = place < count
    start = image.to(tl.int64) * count
    scale = tl.load(largest + image).to(tl.float32) * share
    scale = tl.where(scale == scale, tl.maximum(scale, smallest), scale)
    by = scale
    if SUMS:
        # The inverse is a bfloat16 number, and the scale is its inverse: see `quantize.per_image_scale`.
        by = tl.math.div_rn(1.0, scale).to(tl.bfloat16).to(tl.float32)
        scale = tl.math.div_rn(1.0, by)
    if tl.program_id(0) == 0:
        tl.store(scales + image, scale)
    values = tl.load(x + start + place, mask=inside, other=0.0)
    tl.store(codes + start + place, _rounded(values.to(tl.float32), by, limit, middle, SUMS), mask=inside)
