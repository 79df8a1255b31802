"""Autocast around low-bit layers, whose kernels compute in the dtype of x: x is cast, and autocast is off inside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")


def autocast_dtype(device: str) -> torch.dtype | None:
    """The dtype that autocast computes in on a kind of device; None where it is off, and on devices without it."""
    if hasattr(torch, "get_autocast_dtype"):
        on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        return torch.get_autocast_dtype(device) if on else None
    # Before torch 2.4, as WebUI hosts pin it, each kind of device has functions of its own.
    if device == "cuda":
        return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
    if device == "cpu":
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return None


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on for the device of x."""
    return autocast_dtype(x.device.type) is not None


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Context manager: autocast is off on a kind of device; for computing on weights, which need all of float32."""
    return torch.autocast(device.type, enabled=False) if autocast_dtype(device.type) else nullcontext()


def as_autocast(x: Tensor) -> Tensor:
    """x as autocast casts a layer's input where it is on: to its dtype, all but float64."""
    dtype = autocast_dtype(x.device.type)
    return x if dtype is None or x.dtype == torch.float64 else x.to(dtype)


def under_autocast(compute: Callable[[Tensor], Made], x: Tensor) -> Made:
    """compute(x) with autocast off, and x cast as autocast casts a layer's input: to its dtype, all but float64."""
    cast = as_autocast(x)
    with torch.autocast(x.device.type, enabled=False):
        return compute(cast)
