"""Models by name: located, or else fetched from the Hub, converted from their authors' files, or built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..io.models import restorer_path
from ..io.recipes import known_recipes
from .callbacks import PipelineCallbacks

if TYPE_CHECKING:
    import torch

    from .models import LoadedModel


def model_path(name: str, callbacks: PipelineCallbacks | None = None, device: torch.device | None = None) -> Path:
    """Return the file of a model, given by a name of the catalogue, a recipe or the models folder, or by path.

    A missing one is fetched, or built on `device` (None = the best of this machine), which may take an hour; stopped
    and called again it resumes. Raises ModelError, and what building raises.
    """
    callbacks = callbacks or PipelineCallbacks()
    if name in known_recipes():
        from .build import build_named  # with torch and diffusers, which a download need not wait for

        return build_named(name, callbacks, device)
    return restorer_path(name, callbacks.notify, callbacks.stage(f"fetch {name}", "byte"))


def load_model(name: str, device: torch.device, callbacks: PipelineCallbacks | None = None) -> LoadedModel:
    """Load a model by such a name onto a device, float32 outside integer arithmetic. Raises like `model_path`."""
    from .models import load_file

    return load_file(name, model_path(name, callbacks, device), device)
