"""Activation codes as unsigned bytes, written a piece at a time: the reference's codes plus a zero point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ..backend import ActivationFormat
from ..quantize import byte_of_zero, code_range, offset, rounds_in_bfloat16

_PIECE = 1 << 21  # values balanced and rounded at once: few enough for a cache, many enough for two threads
_KEPT = 256  # rows of offsets: a large model takes some hundred, and maps of every width others
_BITS_OF_128 = 0x4300  # in bfloat16
_WHOLE, _BITS_OF_WHOLE = 1.5 * 2**23, 0x4B400000  # in float32, which around it has integers only
_WRITES = (torch.float32, torch.bfloat16)  # dtypes the products can be written in


def pieces(rows: Tensor) -> Iterator[slice]:
    """Equal slices over the first dimension, each of about as many values as fit the cache."""
    count = max(1, round(rows.numel() / _PIECE))
    step = max(1, -(-len(rows) // count))
    return (slice(start, start + step) for start in range(0, len(rows), step))


def write_token_codes(balanced: Tensor, scale: Tensor, activations: ActivationFormat, out: Tensor) -> None:
    """Write codes as `quantize.quantize_activations` rounds them: balanced [N, K], scale [N, 1], out [N, K] uint8."""
    bits, _, zero_point = activations
    if rounds_in_bfloat16(balanced.dtype, bits):
        middle = _offsets(balanced.shape[1], offset(bits, zero_point), balanced.dtype)
        _write_steps(torch.addcmul(middle, balanced, scale.reciprocal()), bits, zero_point, out)
    else:
        _write_rounded(balanced, scale, bits, zero_point, out)


@lru_cache(_KEPT)
def _offsets(count: int, offset: int, dtype: torch.dtype) -> Tensor:
    """A row of offsets, not a scalar: `addcmul` is fast where it broadcasts no more than one of its operands."""
    with torch.inference_mode(False):
        return torch.full((count,), float(offset), dtype=dtype, device="cpu")


def write_image_codes(
    balanced: Sequence[Tensor], scale: Tensor, activations: ActivationFormat, out: Sequence[Tensor]
) -> None:
    """Write codes of an image's pieces as `quantize.quantize_activations` rounds them, to out, uint8; one scale."""
    (bits, _, zero_point), dtype = activations, balanced[0].dtype
    if not rounds_in_bfloat16(dtype, bits):
        for values, codes in zip(balanced, out, strict=True):
            _write_rounded(values, scale, bits, zero_point, codes)
        return
    inverse = scale.reciprocal().to(dtype).reshape(())  # exact: see `per_image_scale`
    for values, codes in zip(balanced, out, strict=True):
        # Not `torch.add` with an alpha, which rounds the product first in the tail after its last full vector.
        rows = values.reshape(len(values), -1)
        steps = torch.addcmul(_offsets(rows.shape[1], offset(bits, zero_point), dtype), rows, inverse)
        _write_steps(steps.view(values.shape), bits, zero_point, codes)


def _write_steps(steps: Tensor, bits: int, zero_point: int | None, out: Tensor) -> None:
    # In bfloat16, 128 + k has the bits _BITS_OF_128 + k: as int16, which sort as the floats do, such values are
    # clipped and reduced to their low byte, k, several times faster than as floats.
    (lowest, highest), middle = code_range(bits, zero_point), _BITS_OF_128 + byte_of_zero(bits, zero_point)
    out.copy_(steps.view(torch.int16).clamp_(middle + lowest, middle + highest))


def _write_rounded(balanced: Tensor, scale: Tensor, bits: int, zero_point: int | None, out: Tensor) -> None:
    # As above, in float32: the sum is rounded half to even, and its bits count the integers. With an odd zero point
    # halves would go to odd codes, so only its even part is added before the rounding, and 1 after it.
    (lowest, highest), zero = code_range(bits, zero_point), byte_of_zero(bits, zero_point)
    even = zero - zero % 2
    middle = _BITS_OF_WHOLE + even
    balanced = balanced.float() if balanced.dtype == torch.float64 else balanced  # others divide in float32 uncopied
    steps = torch.div(balanced, scale.float()).add_(_WHOLE + even)
    codes = steps.view(torch.int32).clamp_(middle + lowest, middle + highest)
    out.copy_(codes.add_(1) if zero % 2 else codes)


def write_dtype(x: Tensor) -> torch.dtype:
    """The dtype a product for x is written in."""
    return x.dtype if x.dtype in _WRITES else torch.float32
