"""The one-step diffusion face restorer."""

from .by_parts import RestorerByParts
from .configs import OSDFACE, QUANTFACE_MINI, EmbedderConfig, RestorerConfig
from .one_step import OneStepRestorer

__all__ = ["OSDFACE", "QUANTFACE_MINI", "EmbedderConfig", "OneStepRestorer", "RestorerByParts", "RestorerConfig"]
