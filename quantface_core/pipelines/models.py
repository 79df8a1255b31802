"""A restorer as pipelines hand it on: with the name it goes by and what its file says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..errors import UsageError
from ..io.checkpoint import load_restorer, read_notes, save_restorer
from ..io.models import stated_licence
from ..nn.swap import quant_layers
from ..restorer import OneStepRestorer, RestorerModel


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A restorer in memory. Pipelines that quantize or train change it in place: who keeps it gives a copy."""

    name: str  # in messages and reports
    restorer: RestorerModel
    notes: Mapping[str, str] = field(default_factory=dict)  # what its file says of how it was made


def load_file(name: str, path: Path, device: torch.device) -> LoadedModel:
    """A file's restorer, float32 between its integers, on a device. Raises ModelError."""
    return LoadedModel(name, load_restorer(path, device), notes_of(path))


def notes_of(path: Path) -> dict[str, str]:
    """What a file says of how it was made; the catalogue's licence where it says none. Raises ModelError."""
    licence = stated_licence(path)
    return ({"licence": licence} if licence else {}) | read_notes(path)


def save_model(model: LoadedModel, path: Path) -> None:
    """Write a model's file, its notes in it. Raises ModelError, WriteError."""
    save_restorer(model.restorer, path, notes=dict(model.notes))


def require_full_precision(model: LoadedModel) -> None:
    """Raise UsageError when a model is quantized."""
    if quant_layers(model.restorer):
        raise UsageError(f"{model.name} is quantized already: give its full-precision original")


def one_step(model: LoadedModel) -> OneStepRestorer:
    """The model's restorer, for what looks into its latents. Raises UsageError when it has none."""
    if not isinstance(model.restorer, OneStepRestorer):
        kinds = f"of the family {model.restorer.family}, this takes {OneStepRestorer.family} alone"
        raise UsageError(f"{model.name} is a restorer {kinds}")
    return model.restorer
