"""The NVIDIA backend: integer products on tensor cores, by kernels that Triton compiles (DESIGN.md section 4).

Codes and weights are signed bytes at every width. True 4-bit products exist on few generations of processors, and
would make pictures depend on which one it is.

Files with kernels do without `from __future__ import annotations`: as strings, Triton before 3.2 overlooks in its
interpreter which of their arguments are constants.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .conv2d import Conv2d
    from .linear import Linear
    from .norm import group_norm, norm_factors

__all__ = ["Conv2d", "Linear", "group_norm", "norm_factors", "supports", "unavailable"]

_CAPABILITY = (8, 0)  # from which tensor cores multiply bytes
_WHERE = {"Linear": "linear", "Conv2d": "conv2d", "group_norm": "norm", "norm_factors": "norm"}


def __getattr__(name: str) -> Any:
    """What this backend offers, imported when it is asked for: not every machine has the package triton."""
    if name not in _WHERE:
        raise AttributeError(name)
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    return value


@cache
def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device; None = it can."""
    if device.type != "cuda":
        return f"it computes on NVIDIA's GPUs, not on {device.type}"
    if torch.version.cuda is None:
        return "this build of torch is for other GPUs than NVIDIA's"
    if importlib.util.find_spec("triton") is None:
        return "it needs the package triton (on Windows: triton-windows)"
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} is older than the RTX 30 series: it cannot multiply bytes"
    return _does_not_work(device)


def supports(weight_bits: int, activation_bits: int) -> bool:
    """Whether products of such codes come out right: all do."""
    return True


def _does_not_work(device: torch.device) -> str | None:
    """Whether the self-test fails, and how: Triton also needs a C compiler, which not every machine has."""
    try:
        from .self_test import agrees

        with torch.no_grad():
            right = agrees(device)
    except torch.cuda.OutOfMemoryError:  # says nothing of Triton, and must not be kept as if it did
        raise
    except Exception as error:  # Triton's own, the compiler's, the driver's: whatever it is, others compute instead
        return f"Triton cannot compile here ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    return None if right else "its results are wrong here"
