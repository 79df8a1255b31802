"""The x86 backend: oneDNN's integer products on prepacked weights (docs/method.md, section 6).

Activations are unsigned bytes around a zero point: signed ones fall back to a kernel a thousand times
slower. They are balanced and rounded in pieces that stay in the CPU's cache, because at the sizes of
images the passes over memory cost more than the product.
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
        return f"it runs on the CPU, not on {device.type}"
    # On ARM its products are as exact, but plain loops (oneDNN 3.7 with Arm's library: `gemm_s8u8s32:ref`).
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"it needs an x86 processor, this is {platform.machine()}"
    if not torch.backends.mkldnn.is_available() or convolve() is None:
        return "this build of torch has no oneDNN"
    if not known():
        return f"torch {torch.__version__} lacks the integer products used here: update to torch 2.4 or later"
    return None if adds_up(BYTE, 64) else "its results are wrong here"


def supports(weight_bits: int, activation_bits: int) -> bool:
    """Whether products of codes of these widths are exact: without VNNI, those of 8 by 8 bits are not."""
    return exact((1 << activation_bits) - 1, largest_code(weight_bits))
