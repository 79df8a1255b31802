"""The NVIDIA backend: integer products on tensor cores, by kernels that Triton compiles (docs/method.md, section 6).

Codes and weights are signed bytes at every width. True 4-bit products exist on few generations of GPUs, and would
make results depend on which one it is.

Files with kernels do without `from __future__ import annotations`: where annotations are strings, the interpreter of
Triton before 3.2 does not see which arguments are constants.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from ...errors import one_line
from ...runtime.memory import is_out_of_memory

if TYPE_CHECKING:
    from .conv2d import Conv2d
    from .linear import Linear
    from .norm import group_norm, norm_factors

__all__ = ["Conv2d", "Linear", "group_norm", "norm_factors", "supports", "unavailable"]

_CAPABILITY = (8, 0)  # compute capability from which this backend's products run on tensor cores
_WHERE = {"Linear": "linear", "Conv2d": "conv2d", "group_norm": "norm", "norm_factors": "norm"}


def __getattr__(name: str) -> Any:
    """Import the backend's names when they are asked for: not every machine has the package triton."""
    if name not in _WHERE:
        raise AttributeError(name)
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    return value


@cache
def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot run on a device; None = it can."""
    if device.type != "cuda":
        return f"it runs on NVIDIA GPUs, not on {device.type}"
    if torch.version.cuda is None:
        return "this build of torch is not for NVIDIA GPUs"
    if importlib.util.find_spec("triton") is None:
        return "it needs the package triton (on Windows: triton-windows)"
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} is too old: the RTX 30 series or later is needed"
    return _self_test_failure(device)


def supports(weight_bits: int, activation_bits: int) -> bool:
    """Whether products of codes of these widths are exact: always."""
    return True


def _self_test_failure(device: torch.device) -> str | None:
    """How the self-test fails, None = it passes: Triton also needs a C compiler, which not every machine has."""
    try:
        from .self_test import agrees

        # Its verdict holds for the process, so whoever asks first must not change it.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            right = agrees(device)
    except Exception as error:  # from Triton, the compiler or the driver: another backend computes instead
        if is_out_of_memory(error):  # says nothing about Triton, and must not be cached as if it did
            raise
        return f"Triton cannot compile here ({one_line(error)})"
    return None if right else "its results are wrong here"
