"""The compute device: its choice, and its size."""

from __future__ import annotations

import torch

from ..errors import UsageError, one_line


def choose_device(name: str) -> torch.device:
    """The device of a name in `types.DEVICES`; `auto` prefers CUDA (or ROCm), then XPU, MPS and the CPU.

    Makes cuDNN deterministic. Raises UsageError for a device that is not available.
    """
    present = _present()
    if name == "auto":
        name = present[0]
    if name not in present:
        raise UsageError(f"the device {name} is not available on this machine; available: {', '.join(present)}")
    # Reproducible outputs and training: cuDNN neither picks algorithms by timing nor sums in a varying order.
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    return torch.device(name)


def usable_device(device: str | torch.device) -> torch.device:
    """Any device of torch's, or the one that `auto` prefers; no setting of torch is changed.

    Raises UsageError unless tensors can be created on it.
    """
    if device == "auto":
        device = _present()[0]
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (AssertionError, RuntimeError) as error:  # AssertionError if torch was built without it
        raise UsageError(f"the device {device} cannot be used here ({one_line(error)})") from error


def _present() -> list[str]:
    """The kinds of device here, the fastest first."""
    gpus = {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.backends.mps}
    return [*(name for name, module in gpus.items() if module.is_available()), "cpu"]


def multiprocessors(device: torch.device) -> int:
    """Multiprocessors of an NVIDIA GPU (compute units of an AMD one); 1 for any other device."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
