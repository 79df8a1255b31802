"""The compute device: its choice, and its size."""

from __future__ import annotations

import torch

from ..errors import UsageError


def choose_device(name: str) -> torch.device:
    """The device of a name in `types.DEVICES`; `auto` prefers CUDA (or ROCm), then MPS, then the CPU.

    Makes cuDNN deterministic. Raises UsageError for a device that is not available.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, here in present.items() if here)
    if not present.get(name):
        here = ", ".join(device for device, here in present.items() if here)
        raise UsageError(f"the device {name} is not available on this machine; available: {here}")
    # Reproducible outputs and training: cuDNN neither picks algorithms by timing nor sums in a varying order.
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    return torch.device(name)


def multiprocessors(device: torch.device) -> int:
    """Multiprocessors of an NVIDIA GPU (compute units of an AMD one); 1 for any other device."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
