"""Choose the backend that computes: by name, or by what the device can run."""

from __future__ import annotations

import os
import re
import warnings
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import Any, cast

import torch

from ..errors import UsageError
from ..plugins import load_plugins
from . import half, reference, triton
from .backend import NAMES, Backend

BACKENDS = {name: cast("Backend", import_module(f".{name}", __package__)) for name in NAMES}
"""By name, the fastest first; then the registered ones."""

_AUTO = "auto"
_SEE = "see quantface_core.kernels.backend.Backend"
_CONTRACT = {"Linear": ("spec",), "Conv2d": ("spec",), "unavailable": ("device",), "supports": ("weight", "activation")}
"""What `Backend` calls, and what it passes."""
_NATIVE = (8, 0)  # compute capability from which NVIDIA GPUs have bfloat16; below, it is emulated
_EMULATED = re.compile("gfx(8|90[0-79c]|10)")  # AMD's GPUs without it: Polaris, Vega (not MI100 and newer), RDNA, RDNA2


def register_backend(name: str, backend: Backend) -> None:
    """Register a backend in this process under a name that `choose_backend` accepts; "auto" never chooses it.

    Its codes must be those of `reference`, see `Backend`. One from the same place takes the place of the one before, as
    when a notebook's cell runs again. Raises UsageError for a name that is another's or no text, and for a backend that
    lacks an attribute of `Backend` or takes other arguments.
    """
    if not (isinstance(name, str) and name):
        raise UsageError(f"a backend's name is text, such as numpy, got {name!r:.40}")
    if name == _AUTO:
        raise UsageError("auto is no backend, it chooses one: register yours under another name")
    if missing := [part for part in _CONTRACT if not hasattr(backend, part)]:
        raise UsageError(f"backend {name!r} has no {', '.join(missing)}: {_SEE}")
    if wrong := [part for part, given in _CONTRACT.items() if not _takes(getattr(backend, part), given)]:
        raise UsageError(f"backend {name!r} takes other arguments in {', '.join(wrong)}: {_SEE}")
    if name in BACKENDS and (taken := _origin(BACKENDS[name])) != (own := _origin(backend)):
        raise UsageError(f"the backend {name!r} is of {taken}: register that of {own} under another name")
    BACKENDS[name] = backend


def _origin(backend: Backend) -> str:
    """Where a backend is from: a module's or class's name; of any other object, that of its linear."""
    named: Any = backend if isinstance(backend, ModuleType | type) else backend.Linear
    own = getattr(named, "__qualname__", getattr(named, "__name__", type(named).__name__))  # a `partial` has neither
    return own if isinstance(named, ModuleType) else f"{named.__module__}.{own}"


def _takes(function: Any, given: tuple[str, ...]) -> bool:
    """Whether something can be called with as many positional arguments; True where its signature is unknown."""
    try:
        signature(function).bind(*given)
    except TypeError:  # what cannot be called has no signature, which is a TypeError as well
        return False
    except ValueError:
        return True
    return True


def backend_choices() -> tuple[str, ...]:
    """What users choose from: auto, the fastest that the device can run, and all backends, installed packages' too."""
    load_plugins()
    return (_AUTO, *BACKENDS)


def check_backend(name: str) -> None:
    """Raise UsageError for a name that no backend has, here or in an installed package."""
    if name not in BACKENDS and name not in (known := backend_choices()):
        raise UsageError(f"unknown backend {name!r}: use {', '.join(known)}")


def choose_backend(device: torch.device, name: str | None = None) -> Backend:
    """The named backend, else the one that QUANTFACE_BACKEND names, else the fastest the device can run.

    Warns where a GPU has none of the fast ones. Raises UsageError for a name that is unknown or cannot run here, with
    the reason.
    """
    name = name or os.environ.get("QUANTFACE_BACKEND") or _AUTO
    if name == _AUTO:
        chosen = next(backend for backend in BACKENDS.values() if backend.unavailable(device) is None)
        if chosen in (half, reference) and device.type == "cuda":
            warnings.warn(f"low-bit layers are slow here, without Triton: {triton.unavailable(device)}", stacklevel=2)
        return chosen
    check_backend(name)
    reason = BACKENDS[name].unavailable(device)
    if reason:
        raise UsageError(f"backend {name} cannot run here: {reason}")
    return BACKENDS[name]


def preferred_backend(device: torch.device, name: str | None) -> Backend:
    """The named backend where it can run, else as `choose_backend` chooses: for models that move between devices."""
    if name and name not in BACKENDS:  # a copied model may come to a process that has not registered it
        load_plugins()
    named = BACKENDS.get(name or "")
    return named if named and named.unavailable(device) is None else choose_backend(device)


def backend_name(backend: Backend) -> str:
    """The name of a backend in `BACKENDS`. Raises UsageError for one that is not registered."""
    for name, known in BACKENDS.items():
        if known is backend:
            return name
    raise UsageError(f"backend {getattr(backend, '__name__', backend)} is not registered: call register_backend first")


def fast_dtype(device: torch.device) -> torch.dtype:
    """The dtype of all that a low-bit model computes in float: bfloat16 where the device has it, else float32."""
    if device.type == "cuda" and torch.version.hip is not None:
        native = not _EMULATED.match(torch.cuda.get_device_properties(device).gcnArchName)
    elif device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= _NATIVE
    else:
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported") if device.type == "cpu" else ()
        native = any(getattr(torch.cpu, name, bool)() for name in names)
    return torch.bfloat16 if native else torch.float32


def auto_dtype(device: torch.device, low_bit: bool) -> torch.dtype:
    """What the precision "auto" stands for: `fast_dtype` for a low-bit model, float32 for one in full precision."""
    return fast_dtype(device) if low_bit else torch.float32
