"""Group normalization of channels-last maps.

Torch's own transposes such maps, and gives each group to one multiprocessor, so that most of these idle.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..fusion import get_channel_sums
from . import launch

_CHANNELS = 128  # of a slab
_PIXELS = 64  # summed at once
_SLABS = 128  # per image, at most
_PIECE = 4096  # values normalized by a program


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool = False) -> Tensor:
    """`torch.nn.functional.group_norm`, then SiLU with `silu`: x [B, C, H, W], channels last in memory -> the same."""
    factors = norm_factors(x, groups, weight, bias, eps)
    maps = x.permute(0, 2, 3, 1)
    y, count = torch.empty_like(maps), maps[0].numel()
    grid = triton.cdiv(count, _PIECE), len(x)
    launch.start(_normalized, grid, maps, factors, y, count, x.shape[1], SILU=silu, PIECE=_PIECE)
    return y.permute(0, 3, 1, 2)


def norm_factors(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """A group norm's factor and shift for each channel of x: [B, 2, C] float32.

    x [B, C, H, W], channels last in memory; read only where no channel sums are attached to it.
    """
    batch, channels, height, width = x.shape
    known = get_channel_sums(x)
    sums = channel_sums(x) if known is None else known
    factors = torch.empty(batch, 2, channels, dtype=torch.float32, device=x.device)
    size = channels // groups
    launch.start(
        _factors, (groups, batch), sums, weight, bias, factors, height * width, channels, size, sums.shape[1], eps,
        SIZE=triton.next_power_of_2(size), SLABS=_SLABS,
    )  # fmt: skip
    return factors


def channel_sums(x: Tensor) -> Tensor:
    """Sums and sums of squares over slabs of pixels: x [B, C, H, W], channels last -> [B, slabs, 2, C] float32."""
    batch, channels, height, width = x.shape
    pixels = height * width
    high = max(_PIXELS, triton.cdiv(triton.cdiv(pixels, _SLABS), _PIXELS) * _PIXELS)
    slabs = triton.cdiv(pixels, high)
    sums = torch.empty(batch, slabs, 2, channels, dtype=torch.float32, device=x.device)
    launch.start(
        _sums, (slabs, triton.cdiv(channels, _CHANNELS), batch), x.permute(0, 2, 3, 1), sums, pixels, channels, high,
        CHANNELS=_CHANNELS, PIXELS=_PIXELS,
    )  # fmt: skip
    return sums


@triton.jit
def _sums(x, sums, pixels, channels, high, CHANNELS: tl.constexpr, PIXELS: tl.constexpr):
    """Sums and sums of squares of each channel over a slab's pixels: sums [B, slabs, 2, C]."""
    slab, image = tl.program_id(0), tl.program_id(2)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    squares = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for start in range(0, high, PIXELS):
        pixel = slab * high + start + tl.arange(0, PIXELS)
        place = (image.to(tl.int64) * pixels + pixel)[:, None] * channels + channel[None, :]
        values = tl.load(x + place, mask=(pixel < pixels)[:, None] & known[None, :], other=0.0).to(tl.float32)
        total += values
        squares += values * values
    out = sums + (image * tl.num_programs(0) + slab) * 2 * channels + channel
    tl.store(out, tl.sum(total, 0), mask=known)
    tl.store(out + channels, tl.sum(squares, 0), mask=known)


@triton.jit(do_not_specialize=["pixels", "size", "slabs"])
def _factors(sums, weight, bias, factors, pixels, channels, size, slabs, eps, SIZE: tl.constexpr, SLABS: tl.constexpr):
    """Factor and shift of each channel of a group: factors [B, 2, C]."""
    group, image = tl.program_id(0), tl.program_id(1)
    member = tl.arange(0, SIZE)
    channel = group * size + member
    known = member < size
    # In float64: the variance is a difference of two nearly equal values.
    total = tl.zeros((SIZE,), tl.float64)
    squares = tl.zeros((SIZE,), tl.float64)
    for start in range(0, slabs, SLABS):
        slab = start + tl.arange(0, SLABS)
        place = sums + (image * slabs + slab)[:, None] * 2 * channels + channel[None, :]
        read = (slab < slabs)[:, None] & known[None, :]
        total += tl.sum(tl.load(place, mask=read, other=0.0).to(tl.float64), 0)
        squares += tl.sum(tl.load(place + channels, mask=read, other=0.0).to(tl.float64), 0)
    count = (pixels * size).to(tl.float64)
    mean, square = tl.sum(total, 0) / count, tl.sum(squares, 0) / count
    inverse = 1.0 / tl.sqrt((tl.maximum(square - mean * mean, 0.0)).to(tl.float32) + eps)
    factor = tl.load(weight + channel, mask=known, other=0.0).to(tl.float32) * inverse
    shift = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32) - mean.to(tl.float32) * factor
    out = factors + image * 2 * channels + channel
    tl.store(out, factor, mask=known)
    tl.store(out + channels, shift, mask=known)


@triton.jit
def _normalized(x, factors, y, count, channels, SILU: tl.constexpr, PIECE: tl.constexpr):
    image = tl.program_id(1)
    first = tl.program_id(0).to(tl.int64) * PIECE  # a large map has more values than 32 bits count
    number = tl.arange(0, PIECE)
    inside = number < count - first
    channel = factors + image * 2 * channels + ((first % channels).to(tl.int32) + number) % channels
    values = tl.load(x + image.to(tl.int64) * count + first + number, mask=inside, other=0.0).to(tl.float32)
    result = values * tl.load(channel, mask=inside, other=0.0) + tl.load(channel + channels, mask=inside, other=0.0)
    result = result.to(y.dtype.element_ty)
    if SILU:  # of the rounded value, as by a separate layer
        wide = result.to(tl.float32)
        result = (wide / (1.0 + tl.exp(-wide))).to(y.dtype.element_ty)
    tl.store(y + image.to(tl.int64) * count + first + number, result, mask=inside)
