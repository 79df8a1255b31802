"""Face restorers: their interface (`interface.py`), their families (`families.py`) and the one-step diffusion model."""

from .by_stages import RestorerByStages
from .configs import EmbedderConfig, RestorerConfig
from .interface import Restorer, RestorerModel
from .one_step import OneStepRestorer
from .presets import OSDFACE, QUANTFACE_MINI
from .spandrel import SpandrelConfig, SpandrelRestorer

__all__ = [
    "OSDFACE",
    "QUANTFACE_MINI",
    "EmbedderConfig",
    "OneStepRestorer",
    "Restorer",
    "RestorerByStages",
    "RestorerConfig",
    "RestorerModel",
    "SpandrelConfig",
    "SpandrelRestorer",
]
