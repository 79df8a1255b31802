"""CPUs without VNNI add products of bytes in pairs, in 16 bits, which saturate: only small ones are exact.

VNNI is AVX-512's or AVX-VNNI; testing sums tells more than reading the CPU's flags.
"""

from __future__ import annotations

from functools import cache

import torch

from ..quantize import largest_code
from .product import Product

BYTE = 255
_PAIR = 32767


def exact(code: int, weight: int) -> bool:
    """Whether products of unsigned codes up to `code` and signed weights up to `weight` are exact."""
    return not saturates() or 2 * code * weight <= _PAIR


@cache
def saturates() -> bool:
    """Whether products of the largest codes and weights are wrong."""
    return not adds_up(BYTE, largest_code(8))


def adds_up(code: int, weight: int) -> bool:
    """Whether a linear and a convolution with this code and weight everywhere return the right sums."""
    channels, side = 64, 16
    codes = torch.full((side, side, channels), code, dtype=torch.uint8, device="cpu")
    scale = torch.ones(channels, dtype=torch.float32, device="cpu")
    for taps in (1, 3):
        kernel = torch.full((channels, channels, taps, taps), weight, dtype=torch.int8, device="cpu")
        sums = Product(kernel, scale, None, (1, 1), 0)(codes, scale[:1], torch.float32)
        if not (sums == code * weight * channels * taps**2).all():
            return False
    return True
