"""Autocast around low-bit layers, whose kernels compute in the dtype of x: x is cast, and autocast is off inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ..runtime.autocast import autocast_dtype

Made = TypeVar("Made")


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on for the device of x."""
    return autocast_dtype(x.device.type) is not None


def as_autocast(x: Tensor) -> Tensor:
    """x as autocast casts a layer's input where it is on: to its dtype, all but float64."""
    dtype = autocast_dtype(x.device.type)
    return x if dtype is None or x.dtype == torch.float64 else x.to(dtype)


def under_autocast(compute: Callable[[Tensor], Made], x: Tensor) -> Made:
    """compute(x) with autocast off, and x cast as autocast casts a layer's input: to its dtype, all but float64."""
    cast = as_autocast(x)
    with torch.autocast(x.device.type, enabled=False):
        return compute(cast)
