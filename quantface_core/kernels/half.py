"""For NVIDIA's GPUs without Triton: codes carried as float16, through the libraries' own products.

Codes up to 127 are whole numbers that float16 holds, and tensor cores add their products in float32: exact, but for the
result, which a library gives as float16 again. So that it fits, weights are divided by a power of two: one rounding to
11 bits remains, finer than bfloat16's 8. Results are compared with `reference`'s by decibels, not by bits.
"""

from __future__ import annotations

import math
from functools import cache, cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from . import reference
from .quantize import largest_code, largest_magnitude
from .weight import LowBitWeight, self_test_weight
from .weight_cache import can_cache_weights

_CAPABILITY = (7, 0)  # from which products of float16 are quicker than of float32
_LARGEST = 65504  # of float16


def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device; None = it can."""
    if device.type != "cuda" or torch.version.cuda is None:
        return f"it computes on NVIDIA's GPUs, not on {device.type if device.type != 'cuda' else 'others'}"
    if not torch.cuda.is_available():
        return "no NVIDIA GPU is to be used here"
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} multiplies float16 no faster than float32"
    if not agrees(device):
        return f"{torch.cuda.get_device_name(device)} gives wrong products of float16"
    return None


def supports(weight_bits: int, activation_bits: int) -> bool:
    """Whether products of such codes come out right: all do, to 11 bits."""
    return True


class _Carried:
    """A weight as float16, over a power of two that lets every sum of its products with codes fit."""

    def __init__(self, weight: LowBitWeight, activation_bits: int, zero_point: int | None) -> None:
        inputs = torch.Size(weight.shape[1:]).numel()
        most = inputs * largest_code(weight.bits) * largest_magnitude(activation_bits, zero_point)
        self.weight, self.unit = weight, 2.0 ** max(0, math.ceil(math.log2(most / _LARGEST)))
        self.scale = weight.scale.float() * self.unit  # of results, by output
        self._kept: Tensor | None = None
        self._keeps: bool | None = None  # decided once: a captured graph counts on it

    def __call__(self) -> Tensor:
        if self._kept is not None:
            return self._kept
        carried = self.weight.codes().half().div_(self.unit)
        if carried.ndim == 4:
            carried = carried.contiguous(memory_format=torch.channels_last)
        if self._keeps is None:
            self._keeps = can_cache_weights(carried.device)
        self._kept = carried if self._keeps else None
        return carried


class Linear(reference.Linear):
    """As `reference.Linear`, its sums rounded to float16."""

    @cached_property
    def _carried(self) -> _Carried:
        return _Carried(self.weight, self.activation_bits, self.zero_point)

    def product(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The layer's result [N, O] from codes and scales, in the dtype of the scales."""
        sums = (codes.half() @ self._carried().t()).float()
        product = (sums * self._carried.scale).to(reference.product_dtype(scale.dtype))
        return reference.scale_rows(product, scale, self.bias)


class Conv2d(reference.Conv2d):
    """As `reference.Conv2d`, its sums rounded to float16."""

    @cached_property
    def _carried(self) -> _Carried:
        return _Carried(self.weight, self.activation_bits, self.zero_point)

    def __call__(self, x: Tensor) -> Tensor:
        codes, scale = self.codes(x)
        maps = codes.half().contiguous(memory_format=torch.channels_last)
        sums = F.conv2d(maps, self._carried(), None, self.stride, self.padding).float()
        product = sums * (self._carried.scale[:, None, None] * scale)
        return (product if self.bias is None else product + self.bias[:, None, None]).to(x.dtype)


@cache
def agrees(device: torch.device) -> bool:
    """Whether a linear and a convolution are `reference`'s, to 11 bits: on GTX 16 cards float16 may give NaN."""
    rows = torch.linspace(-3, 3, 64 * 64, dtype=torch.float32, device=device).sin().view(64, 64)
    maps = rows.view(1, 64, 8, 8)
    linear, square = (self_test_weight(shape, 4, device) for shape in ((64, 64), (64, 64, 3, 3)))
    sides = (1, 1), (1, 1)
    with torch.no_grad():
        pairs = [
            (Linear(linear, 4, 1.0)(rows), reference.Linear(linear, 4, 1.0)(rows)),
            (Conv2d(square, 4, 1.0, *sides)(maps), reference.Conv2d(square, 4, 1.0, *sides)(maps)),
        ]
    return all(float((ours - theirs).abs().max()) <= 2**-9 * float(theirs.abs().max()) for ours, theirs in pairs)
