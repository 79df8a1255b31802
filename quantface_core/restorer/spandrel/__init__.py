"""Published face restorers that users supply themselves: GFPGAN, RestoreFormer and CodeFormer, built by spandrel."""

from .config import SpandrelConfig
from .restorer import SpandrelRestorer

__all__ = ["SpandrelConfig", "SpandrelRestorer"]
