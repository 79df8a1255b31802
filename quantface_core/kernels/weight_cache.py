"""Whether weights may stay unpacked, in twice the memory or more."""

from __future__ import annotations

import torch

_ROOM = 3 << 30  # bytes that a device has free besides


def can_cache_weights(device: torch.device) -> bool:
    """Whether a device has memory to cache unpacked int8 weights: more than 3 GiB free on CUDA, always elsewhere."""
    return device.type != "cuda" or torch.cuda.mem_get_info(device)[0] > _ROOM
