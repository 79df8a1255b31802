"""The architectures of restorers that a file may hold, by the name its header has for them."""

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
"""The family of files that name none."""


@dataclass(frozen=True)
class Family:
    """How one architecture is read from a file."""

    read_config: Callable[[Mapping[str, Any]], Any]  # of the header's table; raises ConfigError
    build: Callable[[Any], RestorerModel]  # of that configuration; called on the device "meta"


FAMILIES: dict[str, Family] = {
    OneStepRestorer.family: Family(RestorerConfig.from_dict, OneStepRestorer),
    SpandrelRestorer.family: Family(SpandrelConfig.from_dict, SpandrelRestorer),
}


def family(name: str) -> Family:
    """A family by name. Raises ConfigError for one that this version has not."""
    if name not in FAMILIES:
        raise ConfigError(f"a restorer of the family {name!r:.40}, this version knows {', '.join(FAMILIES)}")
    return FAMILIES[name]
