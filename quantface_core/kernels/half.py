"""The backend for GPUs without Triton: codes carried as float16, through the libraries' own products.

Codes up to 127 are exact in float16, and float16 units add their products in float32: all is exact except the result,
which a library returns as float16 again. So that it fits, weights are divided by a power of two: one rounding to 11
bits remains, finer than bfloat16's 8. Results are compared with `reference`'s in decibels, not bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property, partial
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor

from . import reference
from .backend import ActivationFormat, Conv2dSpec, LinearSpec
from .quantize import largest_code, largest_magnitude
from .weight import LowBitWeight, self_test_weight
from .weight_cache import CachedWeight

_DEVICES = ("cuda", "xpu")  # NVIDIA's and AMD's (ROCm), Intel's; Apple's multiply float32 about as fast, exactly
_CAPABILITY = (7, 0)  # NVIDIA's, from which float16 products are faster than float32 ones
_LARGEST = 65504  # of float16
_FLOAT16_SUMS = ("allow_fp16_reduced_precision_reduction", "allow_fp16_accumulation")  # the second from torch 2.7 on
_cublas = Lock()


def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device; None = it can."""
    if device.type not in _DEVICES:
        return f"it runs on NVIDIA, AMD and Intel GPUs, not on {device.type}"
    torch_device = getattr(torch, device.type)
    if not torch_device.is_available():
        return "no such GPU is available here"
    name = torch_device.get_device_name(device)
    if torch.version.cuda is not None and torch.cuda.get_device_capability(device) < _CAPABILITY:
        return f"{name} multiplies float16 no faster than float32"
    if not agrees(device):
        return f"{name} computes wrong float16 products"
    return None


def supports(weight_bits: int, activation_bits: int) -> bool:
    """Whether products of codes of these widths are exact: always, up to a rounding to 11 bits."""
    return True


class _Carried:
    """A weight's codes as float16, divided by a power of two so that every sum of products with activations fits."""

    def __init__(self, weight: LowBitWeight, activations: ActivationFormat) -> None:
        inputs = torch.Size(weight.shape[1:]).numel()
        most = inputs * largest_code(weight.bits) * largest_magnitude(activations.bits, activations.zero_point)
        unit = 2.0 ** max(0, math.ceil(math.log2(most / _LARGEST)))
        self.scale = weight.scale.float() * unit  # [O] float32, of results
        self.codes = CachedWeight(partial(_codes_in, weight, unit))


def _codes_in(weight: LowBitWeight, unit: float) -> Tensor:
    """Codes divided by `unit`, [O, K] or [O, C, kh, kw] channels last, float16."""
    carried = weight.codes().half().div_(unit)
    return carried if carried.ndim == 2 else carried.contiguous(memory_format=torch.channels_last)


@contextmanager
def _summed_in_float32() -> Iterator[None]:
    """Inside, cuBLAS adds float16 products in float32 throughout: by default it may join partial sums in float16.

    The settings are the process's, so one thread at a time changes them.
    """
    matmul = torch.backends.cuda.matmul
    with _cublas:
        allowed = [name for name in _FLOAT16_SUMS if getattr(matmul, name, False)]
        try:
            for name in allowed:
                setattr(matmul, name, False)
            yield
        finally:
            for name in allowed:
                setattr(matmul, name, True)


class Linear(reference.Linear):
    """As `reference.Linear`, with sums rounded to float16."""

    @cached_property
    def _carried(self) -> _Carried:
        return _Carried(self.weight, self.activations)

    def product(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The layer's result [N, O] from codes and scales, in the dtype of the scales."""
        with _summed_in_float32():
            sums = (codes.half() @ self._carried.codes().t()).float()
        product = (sums * self._carried.scale).to(reference.product_dtype(scale.dtype))
        return reference.scale_rows(product, scale, self.bias)


class Conv2d(reference.Conv2d):
    """As `reference.Conv2d`, with sums rounded to float16."""

    @cached_property
    def _carried(self) -> _Carried:
        return _Carried(self.weight, self.activations)

    def __call__(self, x: Tensor) -> Tensor:
        codes, scale = self.codes(x)
        maps = codes.half().contiguous(memory_format=torch.channels_last)
        sums = F.conv2d(maps, self._carried.codes(), None, self.stride, self.padding).float()
        product = sums * (self._carried.scale[:, None, None] * scale)
        return (product if self.bias is None else product + self.bias[:, None, None]).to(x.dtype)


@cache
def agrees(device: torch.device) -> bool:
    """Self-test: whether linears and convolutions, few inputs and many, match `reference` to 2^-9.

    GTX 16 cards may return NaN; a library that adds in float16 loses more, the more inputs.
    """
    # Its verdict holds for the process, so whoever asks first must not change it.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        return all(_agrees(channels, device) for channels in (64, 1280))


def _agrees(channels: int, device: torch.device) -> bool:
    """`agrees` for a linear of this many inputs and a 3x3 convolution."""
    rows = torch.linspace(-3, 3, 64 * channels, dtype=torch.float32, device=device).sin().view(64, channels)
    maps = rows.t().reshape(1, channels, 8, 8)
    linear = LinearSpec(self_test_weight((64, channels), 4, device), ActivationFormat(4))
    square = Conv2dSpec(self_test_weight((64, channels, 3, 3), 4, device), ActivationFormat(4), padding=(1, 1))
    pairs = [
        (Linear(linear)(rows), reference.Linear(linear)(rows)),
        (Conv2d(square)(maps), reference.Conv2d(square)(maps)),
    ]
    return all(float((ours - theirs).abs().max()) <= 2**-9 * float(theirs.abs().max()) for ours, theirs in pairs)
