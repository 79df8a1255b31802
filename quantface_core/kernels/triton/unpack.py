"""Unpack weights from the bits they are stored in to the bytes that tensor cores read.

Where the device has no room for unpacked weights, they are unpacked at every call: inside the product, that would take
twice its time.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..weight import LowBitWeight
from . import launch

_PIECE = 1024  # codes that a program unpacks


def unpacked(weight: LowBitWeight, out: Tensor | None = None) -> Tensor:
    """A linear's codes [O, K], or a convolution's with their taps first [O, kh, kw, C]; int8, in `out` if given."""
    outputs, channels, *taps = weight.shape
    count = torch.Size(taps).numel()
    codes = torch.empty(outputs, *taps, channels, dtype=torch.int8, device=weight.packed.device) if out is None else out
    # Outputs come first: an axis other than the first has at most 65535 programs, and a language model's head more.
    launch.start(
        _unpacked, (outputs, triton.cdiv(channels * count, _PIECE)), weight.packed, codes, channels, count,
        len(weight.packed), BITS=weight.bits, PIECE=_PIECE,
    )  # fmt: skip
    return codes


@triton.jit(do_not_specialize=["size"])
def _unpacked(packed, codes, channels, taps, size, BITS: tl.constexpr, PIECE: tl.constexpr):
    """One output's codes, or some of them: stored by channels and then taps, see `bitpack`."""
    place = tl.program_id(1) * PIECE + tl.arange(0, PIECE)
    inside = place < channels * taps
    first = tl.program_id(0).to(tl.int64) * channels * taps
    packed += first * BITS // 8
    bit = (first * BITS % 8).to(tl.int32) + ((place % channels) * taps + place // channels) * BITS
    byte = bit // 8
    word = tl.load(packed + byte, mask=inside, other=0).to(tl.int32)
    if 8 % BITS:  # a code may begin in one byte and end in the next, which the last code may not have
        more = inside & (byte + 1 < size - first * BITS // 8)
        word |= tl.load(packed + byte + 1, mask=more, other=0).to(tl.int32) << 8
    code = ((word >> (bit % 8)) & ((1 << BITS) - 1)) - (1 << (BITS - 1))
    tl.store(codes + first + place, code.to(tl.int8), mask=inside)
