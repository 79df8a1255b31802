"""Autocast for low-bit layers: their kernels compute in the dtype of x, and must find all that they made in it."""

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
    """What compute makes of x, cast as autocast casts a layer's input (all but float64); autocast is off inside."""
    device = x.device.type
    with torch.autocast(device, enabled=False):
        return compute(x if x.dtype == torch.float64 else x.to(torch.get_autocast_dtype(device)))
