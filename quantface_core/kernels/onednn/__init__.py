"""The x86 backend: oneDNN's integer products on prepacked weights (DESIGN.md section 4).

Activations are unsigned bytes around a zero point: a signed source falls to a kernel a thousand times
slower. They are balanced and rounded in pieces that stay in the processor's cache, because at the sizes
of pictures the passes over memory cost more than the product.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch

from ..weight import LowBitWeight
from .conv2d import Conv2d
from .linear import Linear
from .product import Product

__all__ = ["Conv2d", "Linear", "unavailable"]


def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device; None = it can."""
    if device.type != "cpu":
        return f"it computes on the CPU, not on {device.type}"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"it needs an x86 processor, this is {platform.machine()}"
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.onednn, "qconv_pointwise"):
        return "this build of torch has no oneDNN"
    if not _has_vnni() or not _adds_up():
        return "without VNNI instructions its 8-bit products saturate"
    return None


def _has_vnni() -> bool:
    """Whether the processor multiplies bytes into 32 bits: by AVX-512, or by AVX-VNNI (Intel's since the 12th Core)."""
    if (known := getattr(torch.cpu, "_is_vnni_supported", None)) is None:
        return torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known() or capabilities.get("avx_vnni"))


@cache
def _adds_up() -> bool:
    """Whether the largest sums come out right: on other processors pairs of products saturate at 16 bits."""
    size, side, zero = 64, 16, 0
    weight = LowBitWeight(
        torch.full((size * size * 9,), 255, dtype=torch.uint8), torch.ones(size), 8, (size, size, 3, 3)
    )
    codes, scale = torch.full((side, side, size), 255, dtype=torch.uint8), torch.ones(1)
    convolution = Product(weight.codes(), weight.scale, None, (1, 1), zero)(codes, scale, torch.float32)
    linear = Product(weight.codes()[:, :, :1, :1], weight.scale, None, (1, 1), zero)(codes, scale, torch.float32)
    return bool((linear == 255 * 127 * size).all() and (convolution == 255 * 127 * size * 9).all())
