"""Prepare tokens for a linear in one kernel: gate, norm, scales, rotation, codes, and `down` of a low-rank branch.

A program holds some tokens and goes over their values in pieces, twice, or four times with a norm: the first pass
reads them from memory, the others from the cache. Between steps, values are rounded to the tokens' dtype, as by
separate layers.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..backend import ActivationFormat
from ..channel_transform import ChannelTransform
from ..fusion import TokenNorm
from . import launch
from .rotation import block_matrix
from .rounding import rounded, rounding

_ROWS = 16  # tokens of a program: what tensor cores take
_PLAIN = 64  # values of a block that is not rotated


class Tokens(NamedTuple):
    """Rounded tokens."""

    codes: Tensor  # [N, K] int8
    scales: Tensor  # [N, 1] in the tokens' dtype
    low: Tensor | None  # [N, r], `down` of the balanced tokens before they are rounded


def rounded_tokens(
    x: Tensor,
    activations: ActivationFormat,
    transform: ChannelTransform | None = None,
    down: Tensor | None = None,
    norm: TokenNorm | None = None,
    gated: bool = False,
) -> Tokens:
    """x [N, K], or [N, 2 K] where `gated` (the first half times the GELU of the second) -> its codes.

    Then come the norm and the transform, whose block is one that `rotation.rotates`; down [r, K] reads their result.
    """
    x = x.contiguous()
    count, width = len(x), x.shape[1] // (2 if gated else 1)
    rotate = transform is not None and transform.rotation.block > 1
    size = transform.rotation.block if transform and rotate else _PLAIN
    block = max(16, triton.next_power_of_2(size))
    rank = 0 if down is None else len(down)
    piece, options = piece_of(x.dtype, block, gated, rank)
    group = min(triton.next_power_of_2(triton.cdiv(width, size)), piece // block)
    codes, scales = torch.empty(count, width, dtype=torch.int8, device=x.device), x.new_empty(count, 1)
    low = None if down is None else x.new_empty(count, rank)
    launch.start(
        _tokens, (triton.cdiv(count, _ROWS),),
        x, norm.weight if norm else None, norm.bias if norm else None,
        transform.scales(x.dtype) if transform and not transform.folded else None,
        block_matrix(size, x.dtype, x.device) if rotate else None, down, codes, scales, low,
        count, width, rank, norm.eps if norm else 0.0, **rounding(x.dtype, activations, scales.dtype),
        GATED=gated, RANK=max(16, triton.next_power_of_2(rank)), ROWS=_ROWS, SIZE=size, BLOCK=block, GROUP=group,
        PIECES=triton.cdiv(width, size * group), **options,
    )  # fmt: skip
    return Tokens(codes, scales, low)


def piece_of(dtype: torch.dtype, block: int, gated: bool, rank: int) -> tuple[int, dict[str, int]]:
    """Values of a token that are worked on at once, and launch options: as many as registers hold without spilling."""
    large = dtype.itemsize > 2 or (gated and block > 64)
    width = 128 if large or (gated and rank > 16) else 256
    return width, {"num_warps": 8 if large else 4, "num_stages": 1}


@triton.jit
def _piece(
    x, piece, row, count, width, GATED: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """A piece of tokens [ROWS * GROUP, BLOCK], a token's blocks one below the other; its channels; which exist."""
    line = tl.arange(0, ROWS * GROUP)
    member = tl.arange(0, BLOCK)
    channel = (piece * GROUP + line % GROUP)[:, None] * SIZE + member[None, :]
    token = row + line // GROUP
    inside = (token < count)[:, None] & (channel < width) & (member < SIZE)[None, :]
    if GATED:
        place = x + token.to(tl.int64)[:, None] * (2 * width) + channel
        gate = tl.load(place + width, mask=inside, other=0.0)
        wide = gate.to(tl.float32)
        gate = (0.5 * wide * (1.0 + tl.erf(wide * 0.7071067811865476))).to(gate.dtype)
        values = tl.load(place, mask=inside, other=0.0)
        values = (values.to(tl.float32) * gate.to(tl.float32)).to(values.dtype)
    else:
        values = tl.load(x + token.to(tl.int64)[:, None] * width + channel, mask=inside, other=0.0)
    return values, channel, inside


@triton.jit
def _by_token(lines, ROWS: tl.constexpr, GROUP: tl.constexpr):
    """Per-token values [ROWS], repeated for each of a token's lines: [ROWS * GROUP, 1]."""
    return tl.reshape(tl.broadcast_to(lines[:, None], (ROWS, GROUP)), (ROWS * GROUP,))[:, None]


@triton.jit
def _balanced(
    values, channel, inside, mean, spread, weight, bias, factors, mix, GROUP: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """A piece after norm, scales and rotation."""
    dtype = values.dtype
    if weight is not None:
        wide = (values.to(tl.float32) - _by_token(mean, ROWS, GROUP)) * _by_token(spread, ROWS, GROUP)
        wide = wide * tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
        values = (wide + tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)).to(dtype)
    if factors is not None:
        factor = tl.load(factors + channel, mask=inside, other=0.0).to(tl.float32)
        values = (values.to(tl.float32) * factor).to(dtype)
    if mix is not None:
        values = tl.dot(values, mix, out_dtype=tl.float32, input_precision="ieee").to(dtype)
    return values


@triton.jit(do_not_specialize=["count"])
def _tokens(
    x, weight, bias, factors, matrix, down, codes, scales, low, count, width, rank, eps,
    share, smallest, lowest, highest, middle, SUMS: tl.constexpr, GATED: tl.constexpr, RANK: tl.constexpr,
    ROWS: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr, PIECES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS
    token = row + tl.arange(0, ROWS)
    member = tl.arange(0, BLOCK)
    dtype = x.dtype.element_ty
    mean = tl.zeros((ROWS,), tl.float32)
    spread = tl.zeros((ROWS,), tl.float32)
    if weight is not None:
        for piece in range(PIECES):
            values, _, _ = _piece(x, piece, row, count, width, GATED, SIZE, BLOCK, GROUP, ROWS)
            mean += tl.sum(tl.reshape(tl.sum(values.to(tl.float32), 1), (ROWS, GROUP)), 1)
        mean = mean / width
        for piece in range(PIECES):
            values, _, inside = _piece(x, piece, row, count, width, GATED, SIZE, BLOCK, GROUP, ROWS)
            off = tl.where(inside, values.to(tl.float32) - _by_token(mean, ROWS, GROUP), 0.0)
            spread += tl.sum(tl.reshape(tl.sum(off * off, 1), (ROWS, GROUP)), 1)
        spread = 1.0 / tl.sqrt(spread / width + eps)
    mix = None
    if matrix is not None:
        mix = tl.load(matrix + member[:, None] * BLOCK + member[None, :])
    largest = tl.zeros((ROWS,), tl.float32)
    made = tl.zeros((ROWS, RANK), tl.float32)
    for piece in range(PIECES):
        values, channel, inside = _piece(x, piece, row, count, width, GATED, SIZE, BLOCK, GROUP, ROWS)
        values = _balanced(values, channel, inside, mean, spread, weight, bias, factors, mix, GROUP, ROWS)
        magnitudes = tl.abs(values.to(tl.float32))
        # A maximum ignores NaN; an infinite scale passes it on.
        magnitudes = tl.max(tl.where(magnitudes == magnitudes, magnitudes, float("inf")), 1)
        largest = tl.maximum(largest, tl.max(tl.reshape(magnitudes, (ROWS, GROUP)), 1))
        if down is not None:
            number = tl.arange(0, GROUP * BLOCK)
            place = (piece * GROUP + number // BLOCK) * SIZE + number % BLOCK
            r = tl.arange(0, RANK)
            known = (place < width) & (number % BLOCK < SIZE)
            reads = tl.load(
                down + r[None, :] * width + place[:, None], mask=known[:, None] & (r < rank)[None, :], other=0.0
            )
            made = tl.dot(
                tl.reshape(values, (ROWS, GROUP * BLOCK)), reads, made, out_dtype=tl.float32, input_precision="ieee"
            )
    if low is not None:
        r = tl.arange(0, RANK)
        place = token.to(tl.int64)[:, None] * rank + r[None, :]
        tl.store(low + place, made.to(dtype), mask=(token < count)[:, None] & (r < rank)[None, :])
    scale = tl.maximum((largest * share).to(dtype).to(tl.float32), smallest).to(dtype)
    tl.store(scales + token, scale, mask=token < count)
    by = scale.to(tl.float32)
    if SUMS:
        by = tl.math.div_rn(tl.full(by.shape, 1.0, tl.float32), by).to(dtype).to(tl.float32)
    for piece in range(PIECES):
        values, channel, inside = _piece(x, piece, row, count, width, GATED, SIZE, BLOCK, GROUP, ROWS)
        values = _balanced(values, channel, inside, mean, spread, weight, bias, factors, mix, GROUP, ROWS)
        found = rounded(values.to(tl.float32), _by_token(by, ROWS, GROUP), lowest, highest, middle, SUMS)
        start = (row + tl.arange(0, ROWS * GROUP) // GROUP).to(tl.int64)[:, None] * width
        tl.store(codes + start + channel, found, mask=inside)
