"""Face restorers: what one is (`interface.py`), which there are (`families.py`), and the one-step diffusion one."""

from .by_parts import RestorerByParts
from .configs import OSDFACE, QUANTFACE_MINI, EmbedderConfig, RestorerConfig
from .interface import Restorer, RestorerModel
from .one_step import OneStepRestorer
from .spandrel import SpandrelConfig, SpandrelRestorer

__all__ = [
    "OSDFACE",
    "QUANTFACE_MINI",
    "EmbedderConfig",
    "OneStepRestorer",
    "Restorer",
    "RestorerByParts",
    "RestorerConfig",
    "RestorerModel",
    "SpandrelConfig",
    "SpandrelRestorer",
]
