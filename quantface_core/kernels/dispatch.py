"""Which backend computes: chosen by what the device can do, or by name."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import cast

import torch

from ..errors import UsageError
from . import half, reference, triton
from .backend import NAMES, Backend

BACKENDS = {name: cast("Backend", import_module(f".{name}", __package__)) for name in NAMES}
"""By name, the fastest first; then those that others have registered."""

_AUTO = "auto"
_CONTRACT = ("__name__", "Linear", "Conv2d", "unavailable", "supports")  # `Backend`'s names
_NATIVE = (8, 0)  # compute capability from which NVIDIA's GPUs have bfloat16; before, it is emulated


def register_backend(name: str, backend: Backend) -> None:
    """Make a backend known in this process by a name that `choose_backend` takes; "auto" never chooses it.

    Its codes are to be those of `reference`, see `Backend`. Raises UsageError for a name that is taken, and for a
    backend that lacks one of the contract's.
    """
    if name == _AUTO or name in BACKENDS:
        raise UsageError(f"there is a backend {name!r} already: register yours by another name")
    if missing := [part for part in _CONTRACT if not hasattr(backend, part)]:
        raise UsageError(f"backend {name!r} has no {', '.join(missing)}: see quantface_core.kernels.backend.Backend")
    BACKENDS[name] = backend


def choose_backend(device: torch.device, name: str | None = None) -> Backend:
    """The named backend, else QUANTFACE_BACKEND's, else the fastest the device can run.

    Raises UsageError for a name that is unknown or cannot run here, with the reason.
    """
    name = name or os.environ.get("QUANTFACE_BACKEND") or _AUTO
    if name == _AUTO:
        chosen = next(backend for backend in BACKENDS.values() if backend.unavailable(device) is None)
        if chosen in (half, reference) and device.type == "cuda":
            warnings.warn(f"low-bit layers are slow here: {triton.unavailable(device)}", stacklevel=2)
        return chosen
    if name not in BACKENDS:
        raise UsageError(f"unknown backend {name!r}: use {', '.join((_AUTO, *BACKENDS))}")
    reason = BACKENDS[name].unavailable(device)
    if reason:
        raise UsageError(f"backend {name} cannot run here: {reason}")
    return BACKENDS[name]


def preferred_backend(device: torch.device, name: str | None) -> Backend:
    """The named backend where it can run, else as `choose_backend` chooses: for models that move between devices."""
    named = BACKENDS.get(name or "")  # a copied model may come to a process that has not registered it
    return named if named and named.unavailable(device) is None else choose_backend(device)


def backend_name(backend: Backend) -> str:
    """The name of a backend that `choose_backend` returned."""
    return next(name for name, known in BACKENDS.items() if known is backend)


def fast_dtype(device: torch.device) -> torch.dtype:
    """What a low-bit model computes in between its integers: bfloat16 where the device has it, else float32."""
    if device.type == "cuda":
        native = torch.version.hip is not None or torch.cuda.get_device_capability(device) >= _NATIVE
    else:
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported") if device.type == "cpu" else ()
        native = any(getattr(torch.cpu, name, bool)() for name in names)
    return torch.bfloat16 if native else torch.float32
