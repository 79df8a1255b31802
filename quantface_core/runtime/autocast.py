"""Whether torch's autocast is on, and how to compute without it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def autocast_dtype(device: str) -> torch.dtype | None:
    """The dtype that autocast computes in on a kind of device; None where it is off, and on devices without it."""
    if hasattr(torch, "get_autocast_dtype"):
        try:  # not `is_autocast_available`, which torch 2.10 cannot compile
            return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        except RuntimeError:
            return None
    # Before torch 2.4, as WebUI hosts pin it, each kind of device has functions of its own.
    if device == "cuda":
        return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
    if device == "cpu":
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return None


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Context manager: autocast is off on a kind of device; for computing on weights, which need all of float32."""
    return torch.autocast(device.type, enabled=False) if autocast_dtype(device.type) else nullcontext()
