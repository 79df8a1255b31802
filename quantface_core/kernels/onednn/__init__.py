"""The x86 backend: oneDNN's integer products on prepacked weights (DESIGN.md section 4).

Activations are unsigned bytes around a zero point: a signed source falls to a kernel a thousand times
slower. They are balanced and rounded in pieces that stay in the processor's cache, because at the sizes
of pictures the passes over memory cost more than the product.
"""

from __future__ import annotations

import platform

import torch

from .conv2d import Conv2d
from .linear import Linear

__all__ = ["Conv2d", "Linear", "unavailable"]


def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device; None = it can."""
    if device.type != "cpu":
        return f"it computes on the CPU, not on {device.type}"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"it needs an x86 processor, this is {platform.machine()}"
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.onednn, "qconv_pointwise"):
        return "this build of torch has no oneDNN"
    if not _has_vnni():
        return "without VNNI instructions its 8-bit products saturate"
    return None


def _has_vnni() -> bool:
    """Whether the processor multiplies bytes into 32 bits; without, sums of 8-bit products saturate at 16."""
    known = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(known()) if known else torch.backends.cpu.get_cpu_capability().startswith("AVX512")
