"""The restorer architectures that a file may hold, by the family name in its header."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, UsageError
from ..plugins import load_plugins
from .configs import RestorerConfig
from .interface import RestorerModel
from .one_step import OneStepRestorer
from .spandrel import SpandrelConfig, SpandrelRestorer

DEFAULT = OneStepRestorer.family
"""The family of files that do not name one."""


@dataclass(frozen=True)
class Family:
    """How restorers of one architecture are built from a file."""

    read_config: Callable[[Mapping[str, Any]], Any]  # from the table in the header; raises ConfigError
    build: Callable[[Any], RestorerModel]  # from that configuration; called on the device "meta"


FAMILIES: dict[str, Family] = {
    OneStepRestorer.family: Family(RestorerConfig.from_dict, OneStepRestorer),
    SpandrelRestorer.family: Family(SpandrelConfig.from_dict, SpandrelRestorer),
}


def register_restorer(model: type[RestorerModel], read_config: Callable[[Mapping[str, Any]], Any]) -> None:
    """Register an architecture in this process: files that name its `family` are then loaded by it.

    `read_config` makes the model's only argument from what its `config.to_dict()` returned, as a file has it: it raises
    ConfigError for what does not fit. A class of the same module and name takes the place of the one before, as when a
    notebook's cell runs again. Raises UsageError for a class that is no `RestorerModel`, or whose family has no name or
    is another class's.
    """
    if not (isinstance(model, type) and issubclass(model, RestorerModel)):
        library = RestorerModel.__module__.partition(".restorer.")[0]  # ComfyUI's copy has another name
        raise UsageError(f"a restorer derives from {library}.RestorerModel, got {model!r:.60}")
    name = getattr(model, "family", None)
    if not (isinstance(name, str) and name):
        raise UsageError(f'{model.__name__} has no family: set family = "NAME" in its class, as its files will say')
    if name in FAMILIES and (taken := _class_name(FAMILIES[name].build)) != (own := _class_name(model)):
        raise UsageError(f"the restorer family {name!r:.40} is of {taken}: give that of {own} another name")
    if not callable(read_config):
        raise UsageError(f"read_config is a function of the table that to_dict returned, got {read_config!r:.60}")
    FAMILIES[name] = Family(read_config, model)


def _class_name(model: Any) -> str:
    return f"{model.__module__}.{model.__qualname__}"


def family(name: str) -> Family:
    """The family of that name: this version's, one that this process registered, or an installed package's.

    Raises ConfigError for any other.
    """
    if name not in FAMILIES:
        load_plugins()
    if name not in FAMILIES:
        known = f"this version knows {', '.join(FAMILIES)}"
        remedy = "install its package, or call register_restorer first if it is yours"
        raise ConfigError(f"unknown restorer family {name!r:.40}, {known}: {remedy}")
    return FAMILIES[name]
