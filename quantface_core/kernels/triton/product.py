"""Integer products on tensor cores, scaled as they are written.

A convolution is an implicit product of matrices: every row of the left one is what an output pixel reads, found in
the map as it is needed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import launch


def linear_product(codes: Tensor, weight: Tensor, w_scale: Tensor, x_scale: Tensor, bias: Tensor | None) -> Tensor:
    """Codes [N, K] and weight [O, K], int8; w_scale [O] float32, x_scale [N, 1], bias [O] -> [N, O] as x_scale."""
    (count, inputs), outputs = codes.shape, len(weight)
    out = torch.empty(count, outputs, dtype=x_scale.dtype, device=codes.device)
    tile = launch.tile_of(count, outputs, inputs, codes.device)
    launch.start(
        _linear, (triton.cdiv(count, tile.rows) * triton.cdiv(outputs, tile.columns),),
        codes, weight, out, w_scale, x_scale, bias, count, inputs, outputs, EVEN=inputs % tile.inputs == 0,
        ROWS=tile.rows, COLUMNS=tile.columns, INPUTS=tile.inputs,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


def conv2d_product(
    codes: Tensor,
    weight: Tensor,
    w_scale: Tensor,
    x_scale: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    out: Tensor,
) -> None:
    """Codes [B, H, W, C] and weight [O, kh, kw, C], int8; w_scale and bias [O], x_scale [B] float32.

    Written to out [B, H', W', O], whose channels lie side by side, for as many rows and columns as it has; padding
    is above and to the left, and what is read beyond the map is zero.
    """
    (_, height, width, channels), (batch, tall, wide, outputs) = codes.shape, out.shape
    rows = batch * tall * wide
    tile = launch.tile_of(rows, outputs, channels, codes.device)
    launch.start(
        _conv2d, (triton.cdiv(rows, tile.rows) * triton.cdiv(outputs, tile.columns),),
        codes, weight, out, w_scale, x_scale, bias, rows, height, width, channels, outputs, tall, wide,
        out.stride(0), out.stride(1), out.stride(2), *stride, *padding,
        KH=weight.shape[1], KW=weight.shape[2], EVEN=channels % tile.inputs == 0,
        ROWS=tile.rows, COLUMNS=tile.columns, INPUTS=tile.inputs,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


@triton.jit
def _place(rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows and columns of this program: neighbours share rows, which then come from the cache."""
    across = tl.cdiv(columns, COLUMNS)
    row = (tl.program_id(0) // across) * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % across) * COLUMNS + tl.arange(0, COLUMNS)
    return row, column


@triton.jit
def _add_products(sums, x, weight, read, known, EVEN: tl.constexpr):
    """Sums and what codes at x [ROWS, INPUTS] make with weights [INPUTS, COLUMNS].

    Rows that are not `read` are zero, and so are inputs that are not `known`, of which there are none where EVEN.
    """
    if EVEN:
        return tl.dot(tl.load(x, mask=read, other=0), tl.load(weight), sums, out_dtype=tl.int32)
    a = tl.load(x, mask=read & known[None, :], other=0)
    return tl.dot(a, tl.load(weight, mask=known[:, None], other=0), sums, out_dtype=tl.int32)


@triton.jit(do_not_specialize=["count"])
def _linear(
    x, weight, out, w_scale, x_scale, bias, count, inputs, outputs,
    EVEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    row, column = _place(count, outputs, ROWS, COLUMNS)
    k = tl.arange(0, INPUTS)
    left = x + row.to(tl.int64)[:, None] * inputs + k[None, :]
    # Columns beyond the end read the first: what they give is not written.
    right = weight + tl.where(column < outputs, column, 0)[None, :] * inputs + k[:, None]
    sums = tl.zeros((ROWS, COLUMNS), tl.int32)
    for start in range(0, inputs, INPUTS):
        sums = _add_products(sums, left + start, right + start, (row < count)[:, None], start + k < inputs, EVEN)
    dtype = out.dtype.element_ty
    scale = tl.load(w_scale + column, mask=column < outputs, other=0.0)
    # Rounded where the reference rounds.
    y = (sums.to(tl.float32) * scale[None, :]).to(dtype).to(tl.float32)
    by = tl.load(x_scale + row, mask=row < count, other=0.0).to(tl.float32)[:, None]
    if bias is None:
        y = y * by
    else:
        y = tl.fma(y, by, tl.load(bias + column, mask=column < outputs, other=0.0).to(tl.float32)[None, :])
    place = row.to(tl.int64)[:, None] * outputs + column[None, :]
    tl.store(out + place, y.to(dtype), mask=(row < count)[:, None] & (column < outputs)[None, :])


@triton.jit(do_not_specialize=["rows", "height", "width", "tall", "wide", "pad_down", "pad_across"])
def _conv2d(
    x, weight, out, w_scale, x_scale, bias, rows, height, width, channels, outputs, tall, wide,
    out_image, out_row, out_column, stride_down, stride_across, pad_down, pad_across,
    KH: tl.constexpr, KW: tl.constexpr, EVEN: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    row, column = _place(rows, outputs, ROWS, COLUMNS)
    image, pixel = row // (tall * wide), row % (tall * wide)
    down, across = pixel // wide, pixel % wide
    top, left = down * stride_down - pad_down, across * stride_across - pad_across
    corner = image.to(tl.int64) * height * width + top * width + left
    k = tl.arange(0, INPUTS)
    weights = weight + tl.where(column < outputs, column, 0)[None, :] * (KH * KW * channels) + k[:, None]
    pieces = tl.cdiv(channels, INPUTS)
    sums = tl.zeros((ROWS, COLUMNS), tl.int32)
    for step in range(KH * KW * pieces):
        tap, start = step // pieces, (step % pieces) * INPUTS
        i, j = tap // KW, tap % KW
        inside = (row < rows) & (top + i >= 0) & (top + i < height) & (left + j >= 0) & (left + j < width)
        pixels = x + (corner + i * width + j)[:, None] * channels + (start + k)[None, :]
        taps = weights + tap * channels + start
        sums = _add_products(sums, pixels, taps, inside[:, None], start + k < channels, EVEN)
    scale = tl.load(w_scale + column, mask=column < outputs, other=0.0)[None, :]
    y = sums.to(tl.float32) * (scale * tl.load(x_scale + image, mask=row < rows, other=0.0)[:, None])
    if bias is not None:
        y += tl.load(bias + column, mask=column < outputs, other=0.0)[None, :]
    place = image.to(tl.int64) * out_image + down * out_row + across * out_column
    written = (row < rows)[:, None] & (column < outputs)[None, :]
    tl.store(out + place[:, None] + column[None, :], y.to(out.dtype.element_ty), mask=written)
