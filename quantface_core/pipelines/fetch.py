"""Models by name: found where they are, else fetched from the Hub, converted from their authors' files, or built."""

from __future__ import annotations

from pathlib import Path

import torch

from ..io.models import restorer_path
from ..io.recipes import known_recipes
from .build import build_named
from .callbacks import PipelineCallbacks
from .models import LoadedModel, load_file


def model_path(name: str, callbacks: PipelineCallbacks | None = None) -> Path:
    """The file of a model: a name of the catalogue, of a recipe or of the models folder, or a path.

    One that is not here is made first, which may take an hour; stopped and asked again it goes on. Raises
    ModelError, and what building raises.
    """
    callbacks = callbacks or PipelineCallbacks()
    if name in known_recipes():
        return build_named(name, callbacks)
    return restorer_path(name, callbacks.notify, callbacks.stage(f"fetch {name}", "byte"))


def load_model(name: str, device: torch.device, callbacks: PipelineCallbacks | None = None) -> LoadedModel:
    """A model by such a name, float32 between its integers, on a device. Raises as `model_path` does."""
    return load_file(name, model_path(name, callbacks), device)
