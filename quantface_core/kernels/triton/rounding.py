"""Numbers to codes: those of `quantize.quantize_activations`, to the bit."""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

from ..quantize import largest_code, offset, rounds_in_bfloat16, smallest_scale


@cache
def rounding(dtype: torch.dtype, bits: int, clip: float) -> dict[str, Any]:
    """Keyword arguments of a quantizing kernel for a dtype, bit width and clipping ratio."""
    limit, sums = largest_code(bits), rounds_in_bfloat16(dtype, bits)
    return {
        "share": clip / limit, "smallest": smallest_scale(dtype), "limit": float(limit),
        "middle": float(offset(bits)) if sums else 0.0, "SUMS": sums,
    }  # fmt: skip


@triton.jit
def rounded(x, by, limit, middle, SUMS: tl.constexpr):
    """Codes of float32: x over `by`, or with SUMS times it (its inverse), rounded half to even and clipped.

    Sums above `middle`, if there is one, are what bfloat16 would round.
    """
    steps = x * by if SUMS else tl.math.div_rn(x, by + tl.zeros_like(x))
    whole = (steps + middle + 12582912.0) - 12582912.0 - middle  # 1.5 * 2^23: float32 has only whole numbers there
    return tl.minimum(tl.maximum(whole, -limit), limit).to(tl.int8)
