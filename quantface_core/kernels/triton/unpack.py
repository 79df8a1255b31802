"""Weights from the bits they are kept in to the bytes that tensor cores read, at every call.

Unpacked at once they would take twice the memory or more; unpacked inside the product, twice its time.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..weight import LowBitWeight
from . import launch

_PIECE = 1024  # codes that a program unpacks


def unpacked(weight: LowBitWeight) -> Tensor:
    """A linear's codes [O, K], or a convolution's with their taps first [O, kh, kw, C]; int8."""
    outputs, channels, *taps = weight.shape
    count = torch.Size(taps).numel()
    codes = torch.empty(outputs, *taps, channels, dtype=torch.int8, device=weight.packed.device)
    launch.start(
        _unpacked,
        (triton.cdiv(channels * count, _PIECE), outputs),
        weight.packed,
        codes,
        channels,
        count,
        len(weight.packed),
        BITS=weight.bits,
        PIECE=_PIECE,
    )
    return codes


@triton.jit(do_not_specialize=["size"])
def _unpacked(packed, codes, channels, taps, size, BITS: tl.constexpr, PIECE: tl.constexpr):
    """One output's codes, or some of them: stored by channels and then taps, see `bitpack`."""
    place = tl.program_id(0) * PIECE + tl.arange(0, PIECE)
    inside = place < channels * taps
    first = tl.program_id(1).to(tl.int64) * channels * taps
    packed += first * BITS // 8
    bit = (first * BITS % 8).to(tl.int32) + ((place % channels) * taps + place // channels) * BITS
    byte = bit // 8
    word = tl.load(packed + byte, mask=inside, other=0).to(tl.int32)
    if 8 % BITS:  # codes may begin in one byte and end in the next, of which the last code has none
        more = inside & (byte + 1 < size - first * BITS // 8)
        word |= tl.load(packed + byte + 1, mask=more, other=0).to(tl.int32) << 8
    code = ((word >> (bit % 8)) & ((1 << BITS) - 1)) - (1 << (BITS - 1))
    tl.store(codes + first + place, code.to(tl.int8), mask=inside)
