"""The restorer architectures that a file may hold, by the family name in its header."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
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


def family(name: str) -> Family:
    """The family of that name. Raises ConfigError if this version does not know it."""
    if name not in FAMILIES:
        raise ConfigError(f"unknown restorer family {name!r:.40}, this version knows {', '.join(FAMILIES)}")
    return FAMILIES[name]
