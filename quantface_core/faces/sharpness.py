"""How sharp a small face is in its photo's own pixels: what is as sharp as they can show, a restorer only alters.

The blend network sees faces enlarged to its own size, where all faces of few pixels look blurred.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bit_depth import in_shares
from ..types import Pixels, Plane
from .align import Matrix, footprint, magnification
from .color import luma
from .noise import ramp
from .paste import mask_over

_SHARP = (0.7, 0.8)  # energy of the finest octave over the next one's: 0.8 to 1.2, after a blur of half a pixel 0.6
_SIDES = (256, 128)  # pixels of a crop's side: from the first on the network sees all, up to the second too little
_BLUR = np.array([1, 4, 6, 4, 1]) / 16
_WIDER = np.array([1, 0, 4, 0, 6, 0, 4, 0, 1]) / 16


def sharpness(photo: Pixels, mask: Plane, to_photo: Matrix) -> float:
    """How sharp a small face is in the pixels of a photo [H, W, 3], 0 to 1, within its crop's mask [S, S].

    `to_photo` maps the crop to the photo. 0 for a face of so many pixels that the blend network sees how sharp it is.
    """
    small = ramp(len(mask) * magnification(to_photo), _SIDES)
    area = footprint(to_photo, len(mask), photo.shape[1], photo.shape[0])
    if not small or area.is_empty:
        return 0.0
    inside = mask_over(area, mask, to_photo) > 0.5
    seen = luma(in_shares(photo[area.pixels]))
    smooth = _blurred(seen, _BLUR)
    finest, next_finest = seen - smooth, smooth - _blurred(smooth, _WIDER)
    coarser = float(np.square(next_finest[inside]).sum())
    return small * ramp(float(np.square(finest[inside]).sum()) / coarser, _SHARP) if coarser else 0.0


def _blurred(plane: Plane, kernel: NDArray[np.float64]) -> Plane:
    return cv2.sepFilter2D(plane, -1, kernel, kernel)
