"""The x86 backend: oneDNN's integer products on prepacked weights (DESIGN.md section 4).

Activations are unsigned bytes around a zero point: a signed source falls to a kernel a thousand times
slower. They are balanced and rounded in pieces that stay in the processor's cache, because at the sizes
of pictures the passes over memory cost more than the product.
"""

from __future__ import annotations

import platform
from functools import cache

import torch

from ..quantize import largest_code
from .conv2d import Conv2d
from .linear import Linear
from .product import convolve
from .rows import known
from .saturation import BYTE, adds_up, exact

__all__ = ["Conv2d", "Linear", "supports", "unavailable"]


@cache
def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device; None = it can."""
    if device.type != "cpu":
        return f"it computes on the CPU, not on {device.type}"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"it needs an x86 processor, this is {platform.machine()}"
    if not torch.backends.mkldnn.is_available() or convolve() is None:
        return "this build of torch has no oneDNN"
    if not known():
        return f"torch {torch.__version__} multiplies integers in another way: it takes 2.4"
    return None if adds_up(BYTE, 64) else "its products come out wrong"


def supports(weight_bits: int, activation_bits: int) -> bool:
    """Whether products of such codes come out right: without VNNI those of 8 by 8 bits do not."""
    return exact((1 << activation_bits) - 1, largest_code(weight_bits))
