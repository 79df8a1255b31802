"""Values to codes inside kernels: those of `quantize.quantize_activations`, to the bit."""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

from ..backend import ActivationFormat
from ..quantize import code_range, largest_magnitude, offset, rounds_in_bfloat16, smallest_scale


@cache
def rounding(dtype: torch.dtype, activations: ActivationFormat, scales: torch.dtype) -> dict[str, Any]:
    """Keyword arguments of a kernel that quantizes activations of a dtype; `scales`: the dtype of their scales."""
    bits, clip, zero_point = activations
    (lowest, highest), sums = code_range(bits, zero_point), rounds_in_bfloat16(dtype, bits)
    return {
        "share": clip / largest_magnitude(bits, zero_point), "smallest": smallest_scale(scales),
        "lowest": float(lowest), "highest": float(highest),
        "middle": float(offset(bits, zero_point)) if sums else 0.0, "SUMS": sums,
    }  # fmt: skip


@triton.jit
def rounded(x, by, lowest, highest, middle, SUMS: tl.constexpr):
    """Codes of x, float32: x / by, or with SUMS x * by (`by` is the inverse scale then), rounded half to even, clipped.

    `middle`, 0 without SUMS, is added first, as in bfloat16: halves go to the even sum, not to the even code.
    """
    steps = x * by if SUMS else tl.math.div_rn(x, by + tl.zeros_like(x))
    whole = (steps + middle + 12582912.0) - 12582912.0 - middle  # 1.5 * 2^23: float32 has only integers there
    return tl.minimum(tl.maximum(whole, lowest), highest).to(tl.int8)
