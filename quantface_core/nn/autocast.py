"""Autocast for low-bit layers: kernels compute in the dtype of x, so x is cast first and autocast is off inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on for the device of x; False on devices that have none."""
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def under_autocast(compute: Callable[[Tensor], Made], x: Tensor) -> Made:
    """compute(x) with autocast off, and x cast as autocast casts a layer's input: to its dtype, all but float64."""
    device = x.device.type
    with torch.autocast(device, enabled=False):
        return compute(x if x.dtype == torch.float64 else x.to(torch.get_autocast_dtype(device)))
