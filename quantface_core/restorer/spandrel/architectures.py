"""The classes of spandrel, which is not a dependency: imported when a model of theirs is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...errors import ModelError
from .config import SIZES, SpandrelConfig

# Architecture -> where its class and its `Architecture` are, the class's names (spandrel 0.3 has others), the extra.
_HOMES = {
    "GFPGAN": ("spandrel.architectures.GFPGAN", ("GFPGAN", "GFPGANv1Clean"), "spandrel"),
    "RestoreFormer": ("spandrel.architectures.RestoreFormer", ("RestoreFormer",), "spandrel"),
    "CodeFormer": ("spandrel_extra_arches.architectures.CodeFormer", ("CodeFormer",), "codeformer"),
}
_PACKAGES = {"spandrel": "spandrel", "codeformer": "spandrel spandrel-extra-arches"}


def network(config: SpandrelConfig) -> nn.Module:
    """Spandrel's network of a configuration, in the published layout, its weights random. Raises ModelError."""
    module, names = _module(config.architecture), _HOMES[config.architecture][1]
    made = next(getattr(module, name) for name in names if hasattr(module, name))
    sizes = {key: list(value) if isinstance(value, tuple) else value for key, value in config.sizes.items()}
    built: nn.Module = made(**sizes)
    return built


def infer_config(architecture: str, tensors: Mapping[str, Tensor]) -> SpandrelConfig:
    """The configuration of a published state; spandrel reads sizes off the tensors. Raises whatever does not fit."""
    described = getattr(_module(architecture), f"{architecture}Arch")().load(dict(tensors))
    sizes = {key: described.model.hyperparameters[key] for key in SIZES[architecture]}
    return SpandrelConfig(architecture, {k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()})


def _module(architecture: str) -> Any:
    home, _, extra = _HOMES[architecture]
    try:
        return importlib.import_module(home)
    except Exception as error:  # a torchvision that is not for this torch raises all kinds
        why = f" ({type(error).__name__}: {error})".replace("\n", " ") if not isinstance(error, ImportError) else ""
        raise ModelError(
            f"{architecture} needs {_PACKAGES[extra].replace(' ', ' and ')}{why}: pip install {_PACKAGES[extra]}"
        ) from error
