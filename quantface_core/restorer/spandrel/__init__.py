"""Face restorers that their users have: GFPGAN, RestoreFormer and CodeFormer, as spandrel builds them."""

from .config import SpandrelConfig
from .restorer import SpandrelRestorer

__all__ = ["SpandrelConfig", "SpandrelRestorer"]
