"""Face restorers: ours, one step of a diffusion model, and other families behind the same interface."""

from .base import Described, Restorer
from .by_parts import RestorerByParts, by_parts
from .configs import OSDFACE, QUANTFACE_MINI, EmbedderConfig, RestorerConfig
from .families import build, config_from_dict
from .one_step import OneStepRestorer
from .spandrel import SpandrelConfig, SpandrelRestorer

__all__ = [
    "OSDFACE",
    "QUANTFACE_MINI",
    "Described",
    "EmbedderConfig",
    "OneStepRestorer",
    "Restorer",
    "RestorerByParts",
    "RestorerConfig",
    "SpandrelConfig",
    "SpandrelRestorer",
    "build",
    "by_parts",
    "config_from_dict",
]
