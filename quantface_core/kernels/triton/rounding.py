"""Numbers to codes: those of `quantize.quantize_activations`, to the bit."""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

from ..quantize import code_range, largest_magnitude, offset, rounds_in_bfloat16, smallest_scale


@cache
def rounding(dtype: torch.dtype, bits: int, clip: float, zero_point: int | None) -> dict[str, Any]:
    """Keyword arguments of a quantizing kernel for a dtype, bit width, clipping ratio and zero point."""
    (lowest, highest), sums = code_range(bits, zero_point), rounds_in_bfloat16(dtype, bits)
    return {
        "share": clip / largest_magnitude(bits, zero_point), "smallest": smallest_scale(dtype),
        "lowest": float(lowest), "highest": float(highest),
        "middle": float(offset(bits, zero_point)) if sums else 0.0, "SUMS": sums,
    }  # fmt: skip


@triton.jit
def rounded(x, by, lowest, highest, middle, SUMS: tl.constexpr):
    """Codes of float32: x over `by`, or with SUMS times it (its inverse), rounded half to even and clipped.

    Sums above `middle`, if there is one, are what bfloat16 would round.
    """
    steps = x * by if SUMS else tl.math.div_rn(x, by + tl.zeros_like(x))
    whole = (steps + middle + 12582912.0) - 12582912.0 - middle  # 1.5 * 2^23: float32 has only whole numbers there
    return tl.minimum(tl.maximum(whole, lowest), highest).to(tl.int8)
