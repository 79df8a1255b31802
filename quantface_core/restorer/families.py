"""The families of restorers: which classes a file's configuration is of. A new family adds a line to `_FAMILIES`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from .base import Described, Restorer
from .configs import RestorerConfig
from .one_step import OneStepRestorer
from .spandrel import SpandrelConfig, SpandrelRestorer

_FAMILIES: dict[str, tuple[Any, type[Restorer]]] = {
    "one-step": (RestorerConfig, OneStepRestorer),  # a configuration that names no family is of this one
    "spandrel": (SpandrelConfig, SpandrelRestorer),
}


def config_from_dict(table: Any) -> Described:
    """The configuration that `to_dict` made a table of. Raises ConfigError."""
    if not isinstance(table, Mapping) or "family" not in table:
        return RestorerConfig.from_dict(table)
    family = table["family"]
    if not isinstance(family, str) or family not in _FAMILIES:
        raise ConfigError(f"family: one of {', '.join(_FAMILIES)}, got {family!r:.60}")
    config: Described = _FAMILIES[family][0].from_dict({k: v for k, v in table.items() if k != "family"})
    return config


def build(config: Described) -> Restorer:
    """A restorer of a configuration, its weights random. Raises ModelError when what its family needs is not there."""
    for described, restorer in _FAMILIES.values():
        if isinstance(config, described):
            return restorer(config)
    raise ConfigError(f"{type(config).__name__}: of no family of restorers")
