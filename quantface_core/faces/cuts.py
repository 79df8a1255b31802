"""Where one shot of a film ends and the next begins."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Pixels

Thumb = NDArray[np.float32]
"""A frame as a cut is seen in it, [18, 32, 3] in 0 to 1."""

_WIDTH, _HEIGHT = 32, 18
_SHIFT = 2  # places of a thumb, up and down and to the sides, by which a pan may have moved it
_ALIKE = 0.7  # correlation below which nothing of the one frame is in the other
_FLAT = 0.01  # of full white: deviation of a frame that shows nothing
_LEAST = 0.05  # of full white: mean difference that a cut makes at least


def thumb_of(pixels: Pixels) -> Thumb:
    """The thumb of a frame [H, W, 3]."""
    small = cv2.resize(pixels, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
    return (small / np.float32(np.iinfo(pixels.dtype).max)).astype(np.float32)


def is_cut(before: Thumb, after: Thumb) -> bool:
    """Whether two successive frames are of different shots.

    A flash, a pan or a fade changes much and is none: what was there is still there, brighter or beside its place.
    """
    if float(np.abs(before - after).mean()) < _LEAST:
        return False
    if min(float(before.std()), float(after.std())) < _FLAT:
        return True  # out of black, or into it
    inner = before[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    found = cv2.matchTemplate(after, np.ascontiguousarray(inner), cv2.TM_CCOEFF_NORMED)
    return bool(np.nan_to_num(found, nan=0.0, posinf=0.0).max() < _ALIKE)
