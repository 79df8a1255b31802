"""A restorer as pipelines pass it on: with its name and its file's notes; and how one that restores is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ..errors import UsageError
from ..io.checkpoint import load_restorer, read_notes, save_restorer
from ..io.face_restorers import architecture_in
from ..io.models import stated_licence
from ..kernels.backend import Backend
from ..kernels.dispatch import auto_dtype, backend_name, choose_backend
from ..nn.swap import prepare, quant_layers
from ..quant.model_file import opened
from ..restorer import OneStepRestorer, Restorer, RestorerByStages, RestorerModel
from ..runtime.threads import compute_by


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A restorer in memory. Pipelines that quantize or train change it in place: pass a copy to keep it."""

    name: str  # in messages and reports
    restorer: RestorerModel
    notes: Mapping[str, str] = field(default_factory=dict)  # its file's, on how it was made


@dataclass(frozen=True)
class Execution:
    """A model, and how it is executed."""

    model: Path  # its file
    device: torch.device
    backend: str = "auto"  # of the low-bit layers
    precision: str = "auto"  # outside integer arithmetic: float32, bfloat16, or auto = what is fastest on the device
    low_memory: bool = False  # one part of the model in memory at a time
    threads: int | None = None  # CPU threads to compute with; None = torch's default
    upscaler: Path | None = None  # the file of a network that enlarges photos around their faces; None = Lanczos


def load_for(execution: Execution) -> Restorer:
    """Load the restorer for an execution, and set the process's threads if it gives them.

    Raises ModelError, and UsageError for a device or backend that is not available.
    """
    if execution.threads:
        compute_by(execution.threads)
    model, device, backend = execution.model, execution.device, _backend(execution)
    dtype = None if execution.precision == "auto" else getattr(torch, execution.precision)

    def load(prefixes: tuple[str, ...] | None = None) -> RestorerModel:
        restorer = load_restorer(model, device, dtype, prefixes)
        prepare(restorer, backend)
        return restorer

    if not execution.low_memory:
        return load()
    empty = load(())
    if not isinstance(empty, OneStepRestorer):  # it has one part, and is small
        return load()
    return RestorerByStages(empty.config, device, lambda only: one_step(LoadedModel(model.stem, load(only))))


def resolve(execution: Execution) -> Execution:
    """The same with what "auto" stands for: the backend's name, "" for a full-precision model, and the precision.

    No weights are read. Raises as `load_for`.
    """
    low_bit = _is_low_bit(execution.model)
    precision = execution.precision
    if precision == "auto":
        precision = str(auto_dtype(execution.device, low_bit)).removeprefix("torch.")
    return replace(execution, backend=backend_name(_backend(execution)) if low_bit else "", precision=precision)


def _backend(execution: Execution) -> Backend:
    return choose_backend(execution.device, None if execution.backend == "auto" else execution.backend)


def _is_low_bit(path: Path) -> bool:
    if architecture_in(path):  # a published file
        return False
    with opened(path) as file:
        return "layers" in (file.metadata() or {})


def load_file(name: str, path: Path, device: torch.device) -> LoadedModel:
    """Load a file's restorer onto a device, float32 outside integer arithmetic. Raises ModelError."""
    return LoadedModel(name, load_restorer(path, device), notes_of(path))


def notes_of(path: Path) -> dict[str, str]:
    """A file's notes on how it was made, with the catalogue's licence where they state none. Raises ModelError."""
    licence = stated_licence(path)
    return ({"licence": licence} if licence else {}) | read_notes(path)


def save_model(model: LoadedModel, path: Path) -> None:
    """Write a model to a file, with its notes. Raises ModelError, WriteError."""
    save_restorer(model.restorer, path, notes=dict(model.notes))


def require_full_precision(model: LoadedModel) -> None:
    """Raise UsageError when a model is quantized."""
    if quant_layers(model.restorer):
        raise UsageError(f"{model.name} is quantized already: give its full-precision original")


def one_step(model: LoadedModel) -> OneStepRestorer:
    """The model's restorer, for callers that need its latents. Raises UsageError for any other family."""
    if not isinstance(model.restorer, OneStepRestorer):
        kinds = f"of the family {model.restorer.family}, but this needs a {OneStepRestorer.family} one"
        raise UsageError(f"{model.name} is a restorer {kinds}")
    return model.restorer
