"""Group normalization of maps whose channels lie side by side.

Torch's own turns such maps around, and gives a group to one multiprocessor, most of which then wait.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import launch

_CHANNELS = 128  # of a slab
_PIXELS = 64  # summed at once
_SLABS = 128  # of an image at most
_PIECE = 4096  # numbers normalized by a program


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """As `torch.nn.functional.group_norm`: x [B, C, H, W], channels last in memory -> the same."""
    batch, channels, height, width = x.shape
    maps = x.permute(0, 2, 3, 1)
    pixels = height * width
    high = max(_PIXELS, triton.cdiv(triton.cdiv(pixels, _SLABS), _PIXELS) * _PIXELS)
    slabs = triton.cdiv(pixels, high)
    sums = torch.empty(batch, slabs, 2, channels, device=x.device)
    factors = torch.empty(batch, 2, channels, device=x.device)
    y = torch.empty_like(maps)
    launch.start(
        _sums,
        (slabs, triton.cdiv(channels, _CHANNELS), batch),
        maps,
        sums,
        pixels,
        channels,
        high,
        CHANNELS=_CHANNELS,
        PIXELS=_PIXELS,
    )
    size = channels // groups
    launch.start(
        _factors, (groups, batch),
        sums, weight, bias, factors, pixels, channels, size, slabs, eps,
        SIZE=triton.next_power_of_2(size), SLABS=triton.next_power_of_2(slabs),
    )  # fmt: skip
    count = pixels * channels
    launch.start(_normalized, (triton.cdiv(count, _PIECE), batch), maps, factors, y, count, channels, PIECE=_PIECE)
    return y.permute(0, 3, 1, 2)


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


@triton.jit
def _factors(sums, weight, bias, factors, pixels, channels, size, slabs, eps, SIZE: tl.constexpr, SLABS: tl.constexpr):
    """What each channel of a group is multiplied by, and what is added: factors [B, 2, C]."""
    group, image = tl.program_id(0), tl.program_id(1)
    slab, member = tl.arange(0, SLABS), tl.arange(0, SIZE)
    channel = group * size + member
    known = member < size
    place = sums + (image * slabs + slab)[:, None] * 2 * channels + channel[None, :]
    read = (slab < slabs)[:, None] & known[None, :]
    # In float64: the difference of two nearly equal numbers.
    count = (pixels * size).to(tl.float64)
    mean = tl.sum(tl.sum(tl.load(place, mask=read, other=0.0).to(tl.float64), 0), 0) / count
    square = tl.sum(tl.sum(tl.load(place + channels, mask=read, other=0.0).to(tl.float64), 0), 0) / count
    inverse = 1.0 / tl.sqrt((tl.maximum(square - mean * mean, 0.0)).to(tl.float32) + eps)
    factor = tl.load(weight + channel, mask=known, other=0.0).to(tl.float32) * inverse
    shift = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32) - mean.to(tl.float32) * factor
    out = factors + image * 2 * channels + channel
    tl.store(out, factor, mask=known)
    tl.store(out + channels, shift, mask=known)


@triton.jit
def _normalized(x, factors, y, count, channels, PIECE: tl.constexpr):
    image = tl.program_id(1)
    place = tl.program_id(0) * PIECE + tl.arange(0, PIECE)
    inside = place < count
    channel = factors + image * 2 * channels + place % channels
    values = tl.load(x + image.to(tl.int64) * count + place, mask=inside, other=0.0).to(tl.float32)
    result = values * tl.load(channel, mask=inside, other=0.0) + tl.load(channel + channels, mask=inside, other=0.0)
    tl.store(y + image.to(tl.int64) * count + place, result.to(y.dtype.element_ty), mask=inside)
