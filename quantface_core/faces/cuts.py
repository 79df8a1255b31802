"""Where one shot of a film ends and the next begins."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bit_depth import in_shares
from ..types import Pixels

Thumb = NDArray[np.float32]
"""A frame's thumbnail, by which cuts are detected, [18, 32, 3] in 0 to 1."""

_WIDTH, _HEIGHT = 32, 18
_SHIFT = 2  # pixels of a thumbnail, vertically and horizontally, by which a pan may have shifted it
_ALIKE = 0.7  # correlation below which two frames have nothing in common
_FLAT = 0.01  # standard deviation, of full white, below which a frame is blank
_LEAST = 0.05  # least mean difference, of full white, of a cut


def thumb_of(pixels: Pixels) -> Thumb:
    """The thumbnail of a frame [H, W, 3], uint8 or uint16."""
    return in_shares(cv2.resize(pixels, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA))


def is_cut(before: Thumb, after: Thumb) -> bool:
    """Whether two successive frames belong to different shots.

    A flash, a pan or a fade changes a frame a lot but is no cut: its content is still there, brighter or shifted.
    """
    if float(np.abs(before - after).mean()) < _LEAST:
        return False
    if min(float(before.std()), float(after.std())) < _FLAT:
        return True  # from or to black
    inner = before[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    found = cv2.matchTemplate(after, np.ascontiguousarray(inner), cv2.TM_CCOEFF_NORMED)
    return bool(np.nan_to_num(found, nan=0.0, posinf=0.0).max() < _ALIKE)
