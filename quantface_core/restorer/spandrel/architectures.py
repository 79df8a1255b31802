"""Access to spandrel's classes. Spandrel is an optional dependency, imported when such a model is requested."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...errors import ModelError
from ...requirements import install_command
from .config import SIZES, SpandrelConfig

# Architecture -> module of its class and its `Architecture`, possible class names (they differ in spandrel 0.3), extra.
_HOMES = {
    "GFPGAN": ("spandrel.architectures.GFPGAN", ("GFPGAN", "GFPGANv1Clean"), "spandrel"),
    "RestoreFormer": ("spandrel.architectures.RestoreFormer", ("RestoreFormer",), "spandrel"),
    "CodeFormer": ("spandrel_extra_arches.architectures.CodeFormer", ("CodeFormer",), "codeformer"),
}
_PACKAGES = {"spandrel": "spandrel", "codeformer": "spandrel spandrel-extra-arches"}


def network(config: SpandrelConfig) -> nn.Module:
    """Spandrel's network for a configuration, in the published layout, with random weights.

    Raises ModelError when spandrel is missing or cannot be imported.
    """
    module, names = _module(config.architecture), _HOMES[config.architecture][1]
    made = next(getattr(module, name) for name in names if hasattr(module, name))
    sizes = {key: list(value) if isinstance(value, tuple) else value for key, value in config.sizes.items()}
    built: nn.Module = made(**sizes)
    return built


def infer_config(architecture: str, tensors: Mapping[str, Tensor]) -> SpandrelConfig:
    """The configuration of a published state dict, whose sizes spandrel infers from the tensors.

    Raises ModelError when spandrel is missing or cannot be imported, ConfigError for sizes out of bounds, and whatever
    spandrel raises for tensors that do not fit.
    """
    described = getattr(_module(architecture), f"{architecture}Arch")().load(dict(tensors))
    sizes = {key: described.model.hyperparameters[key] for key in SIZES[architecture]}
    return SpandrelConfig(architecture, {k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()})


def _module(architecture: str) -> Any:
    home, _, extra = _HOMES[architecture]
    return import_spandrel(home, architecture, _PACKAGES[extra])


def import_spandrel(module: str, user: str, packages: str = "spandrel") -> Any:
    """A module of spandrel's. Raises ModelError where it cannot be imported, which names what needs the packages."""
    try:
        return importlib.import_module(module)
    except Exception as error:  # a torchvision built for another torch raises all kinds of errors
        why = f" ({type(error).__name__}: {error})".replace("\n", " ") if not isinstance(error, ImportError) else ""
        raise ModelError(f"{user} needs {packages.replace(' ', ' and ')}{why}: {install_command(packages)}") from error
