"""Where to compute."""

from __future__ import annotations

import torch

from ..errors import UsageError

NAMES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA (or ROCm), then Apple's MPS, then the CPU. Raises UsageError for one that is not here."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, here in present.items() if here)
    if not present.get(name):
        here = ", ".join(device for device, here in present.items() if here)
        raise UsageError(f"the device {name} is not available on this machine; there is: {here}")
    # Same input, same picture, same training: no algorithm chosen by timing, nor one that adds in any order.
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    return torch.device(name)
