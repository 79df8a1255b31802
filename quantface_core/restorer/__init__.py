"""The one-step diffusion face restorer."""

from .configs import OSDFACE, QUANTFACE_MINI, EmbedderConfig, RestorerConfig
from .one_step import OneStepRestorer

__all__ = ["OSDFACE", "QUANTFACE_MINI", "EmbedderConfig", "OneStepRestorer", "RestorerConfig"]
