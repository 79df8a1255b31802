"""Turn photos upright."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .photo import Photo


def turned(found: Photo, orientation: int) -> Photo:
    """Apply an EXIF orientation, 1 to 8, to pixels and alpha; at 1 the photo is upright already."""
    if orientation == 1:
        return found
    alpha = None if found.alpha is None else _upright(found.alpha, orientation)
    return replace(found, pixels=_upright(found.pixels, orientation), alpha=alpha)


def _upright(data: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation (2 to 8) to [H, W, ...]."""
    if orientation in (5, 6, 7, 8):
        data = data.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        data = data[:, ::-1]
    if orientation in (3, 4, 7, 8):
        data = data[::-1]
    return np.ascontiguousarray(data)
