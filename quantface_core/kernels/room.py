"""Whether weights may stay unpacked, in twice the memory or more."""

from __future__ import annotations

import torch

_ROOM = 3 << 30  # bytes that a device has free besides


def roomy(device: torch.device) -> bool:
    """Whether a device has so much memory free that weights may stay unpacked."""
    return device.type != "cuda" or torch.cuda.mem_get_info(device)[0] > _ROOM
