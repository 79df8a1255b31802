"""Prepare a map for a convolution: norm, activation, scales and rotation in one pass, and codes in the next.

Run separately, each would read and write the map, 21 bytes per value instead of 7. Between steps, values are rounded
to the map's dtype, as by separate layers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..backend import ActivationFormat
from ..channel_transform import ChannelTransform
from . import launch
from .rotation import block_matrix, rotates
from .rounding import rounded, rounding

_PLAIN = 64  # channels of a tile that is not rotated
_PARTS = 1024  # of an image at most, each with a largest magnitude of its own
OPTIONS = {"num_warps": 8, "num_stages": 1}  # of kernels that work on tiles
_PIECE, _PROGRAMS = 4096, 2048  # values rounded at once; programs per image that round, at most


def balanced(
    x: Tensor, transform: ChannelTransform | None, factors: Tensor | None = None, silu: bool = False
) -> tuple[Tensor, Tensor]:
    """Apply norm, SiLU and channel transform to x [B, H, W, C]; return it and its largest magnitudes [B, parts].

    `factors` [B, 2, C] float32 are the norm's multipliers and shifts. Maxima are float32, infinite where x has a NaN.
    """
    x = x.contiguous()
    if transform and not rotates(transform, x.dtype):  # the block is larger than a tile
        if factors is not None or silu:
            x = _passed(x, None, factors, silu)[0]
        return _passed(transform(x), None, None, False)
    return _passed(x, transform, factors, silu)


def _passed(x: Tensor, transform: ChannelTransform | None, factors: Tensor | None, silu: bool) -> tuple[Tensor, Tensor]:
    batch, channels = len(x), x.shape[-1]
    pixels = x[0].numel() // channels
    rotate = transform is not None and transform.rotation.block > 1
    size = transform.rotation.block if transform and rotate else _PLAIN
    scales = transform.scales(x.dtype) if transform and not transform.folded else None
    matrix = block_matrix(size, x.dtype, x.device) if rotate else None
    changes = rotate or silu or scales is not None or factors is not None
    out = torch.empty_like(x) if changes else x
    rows = rows_of(x.dtype)
    blocks, tiles = triton.cdiv(channels, size), triton.cdiv(pixels, rows)
    each = triton.cdiv(tiles, max(1, _PARTS // blocks))
    chunks = triton.cdiv(tiles, each)
    largest = torch.empty(batch, chunks * blocks, dtype=torch.float32, device=x.device)
    launch.start(
        _balanced, (chunks, blocks, batch), x, factors, scales, matrix, out, largest, pixels, channels, each,
        SILU=silu, CHANGES=changes, SIZE=size, BLOCK=max(16, triton.next_power_of_2(size)), ROWS=rows,
        **OPTIONS,
    )  # fmt: skip
    return out, largest


def rows_of(dtype: torch.dtype) -> int:
    """Pixels of a tile: as many as registers hold without spilling."""
    return 256 // dtype.itemsize


def image_codes(x: Tensor, largest: Tensor, activations: ActivationFormat) -> tuple[Tensor, Tensor]:
    """Codes of what `balanced` returns, and per-image scales: [B, H, W, C] int8, [B] float32."""
    batch, count = len(x), x[0].numel()
    pieces = triton.cdiv(triton.cdiv(count, _PIECE), _PROGRAMS)
    codes, scales = torch.empty_like(x, dtype=torch.int8), torch.empty(batch, dtype=torch.float32, device=x.device)
    launch.start(
        _image_codes, (triton.cdiv(count, _PIECE * pieces), batch), x, largest, codes, scales, count, pieces,
        largest.shape[1], **rounding(x.dtype, activations, scales.dtype), PIECE=_PIECE,
        PARTS=max(_PARTS, triton.next_power_of_2(largest.shape[1])),
    )  # fmt: skip
    return codes, scales


@triton.jit(do_not_specialize=["pixels", "tiles"])
def _balanced(
    x, factors, scales, matrix, out, largest, pixels, channels, tiles,
    SILU: tl.constexpr, CHANGES: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Some tiles of one block of channels of an image. SIZE channels are in a block, padded to BLOCK."""
    chunk, block, image = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    member = tl.arange(0, BLOCK)
    channel = block * SIZE + member
    within = (member < SIZE) & (channel < channels)
    start = image.to(tl.int64) * pixels * channels
    dtype = x.dtype.element_ty
    if factors is not None:
        factor = tl.load(factors + image * 2 * channels + channel, mask=within, other=0.0)[None, :]
        shift = tl.load(factors + (image * 2 + 1) * channels + channel, mask=within, other=0.0)[None, :]
    if scales is not None:
        scale = tl.load(scales + channel, mask=within, other=0.0).to(tl.float32)[None, :]
    if matrix is not None:
        mix = tl.load(matrix + member[:, None] * BLOCK + member[None, :])
    top = tl.zeros((ROWS,), tl.float32)
    for tile in range(tiles):
        pixel = (chunk * tiles + tile) * ROWS + tl.arange(0, ROWS)
        known = (pixel < pixels)[:, None] & within[None, :]
        place = start + pixel.to(tl.int64)[:, None] * channels + channel[None, :]
        values = tl.load(x + place, mask=known, other=0.0)
        if factors is not None:
            values = (values.to(tl.float32) * factor + shift).to(dtype)
        if SILU:
            wide = values.to(tl.float32)
            values = (wide / (1.0 + tl.exp(-wide))).to(dtype)
        if scales is not None:
            values = (values.to(tl.float32) * scale).to(dtype)
        if matrix is not None:
            # Masked values, which a norm's shift made nonzero, must not enter the rotation.
            values = tl.where(known, values, tl.zeros_like(values))
            values = tl.dot(values, mix, out_dtype=tl.float32, input_precision="ieee").to(dtype)
        if CHANGES:
            tl.store(out + place, values, mask=known)
        magnitudes = tl.abs(values.to(tl.float32))
        # A maximum ignores NaN; an infinite scale passes it on.
        magnitudes = tl.where(magnitudes == magnitudes, magnitudes, float("inf"))
        top = tl.maximum(top, tl.max(tl.where(known, magnitudes, 0.0), 1))
    part = (image * tl.num_programs(1) + block) * tl.num_programs(0) + chunk
    tl.store(largest + part, tl.max(top, 0))


@triton.jit(do_not_specialize=["pieces", "parts"])
def _image_codes(
    x, largest, codes, scales, count, pieces, parts, share, smallest, lowest, highest, middle,
    SUMS: tl.constexpr, PIECE: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1)
    part = tl.arange(0, PARTS)
    top = tl.max(tl.load(largest + image * parts + part, mask=part < parts, other=0.0), 0)
    scale = tl.maximum(top * share, smallest)
    by = scale
    if SUMS:
        # The inverse is rounded to bfloat16, and the scale is the inverse of that: see `quantize.per_image_scale`.
        by = tl.math.div_rn(1.0, scale).to(tl.bfloat16).to(tl.float32)
        scale = tl.math.div_rn(1.0, by)
    if tl.program_id(0) == 0:
        tl.store(scales + image, scale)
    number = tl.arange(0, PIECE)
    for piece in range(pieces):
        first = (tl.program_id(0).to(tl.int64) * pieces + piece) * PIECE
        start = image.to(tl.int64) * count + first
        inside = number < count - first
        values = tl.load(x + start + number, mask=inside, other=0.0)
        tl.store(codes + start + number, rounded(values.to(tl.float32), by, lowest, highest, middle, SUMS), mask=inside)
