"""Whether torch's autocast is on, how to compute without it, and what it makes of an input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

_Made = TypeVar("_Made")


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


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on for the device of x."""
    return autocast_dtype(x.device.type) is not None


def as_autocast(x: Tensor) -> Tensor:
    """x as autocast casts a layer's input where it is on: to its dtype, all but float64."""
    dtype = autocast_dtype(x.device.type)
    return x if dtype is None or x.dtype == torch.float64 else x.to(dtype)


def under_autocast(compute: Callable[[Tensor], _Made], x: Tensor) -> _Made:
    """compute(`as_autocast(x)`) with autocast off, for kernels that compute in the dtype of x."""
    cast = as_autocast(x)
    with without_autocast(x.device):
        return compute(cast)
