"""Unpacked weights, at twice the memory or more: kept where the device has room."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_ROOM = 3 << 30  # bytes that have to be free


class CachedWeight:
    """A weight as a backend reads it: unpacked by `unpack` at every call, or once where the device has room to keep it.

    `unpack` must not hold the object that holds this one: such a cycle would outlive its model's unloading.
    """

    def __init__(self, unpack: Callable[[], Tensor]) -> None:
        self._unpack = unpack
        self._weight: Tensor | None = None
        self._stays: bool | None = None  # decided once, at the first call: a captured graph relies on it

    def __call__(self) -> Tensor:
        """The unpacked weight; not to be changed."""
        if self._weight is not None:
            return self._weight
        weight = self._unpack()
        if self._stays is None:
            self._stays = _has_room(weight.device)
        self._weight = weight if self._stays else None
        return weight


def _has_room(device: torch.device) -> bool:
    """Whether an unpacked weight may stay on a device: more than 3 GiB to allocate on CUDA, always elsewhere."""
    if device.type != "cuda":
        return True
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, free to be reused
    return torch.cuda.mem_get_info(device)[0] + cached > _ROOM
