"""Pictures of a photo in which the detector finds faces that the photo hides from it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_DOTS = 2.0  # sigma in pixels of the blur that merges a halftone print's dots
# Nearly all values (these percentiles) of a faded picture lie within so few levels. They are stretched to all 256, but
# no more than so many times: at less than 0.15 of a photo's contrast the detector misses faces or doubts them.
_NEARLY_ALL, _FADED, _MOST = (2, 98), 64, 8.0


def without_dots(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image [H, W, 3] without the dots of a halftone print, in which no face is found otherwise."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), _DOTS), np.uint8)


def stretched(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A faded image [H, W, 3] at full contrast; the same array if it is not faded."""
    step = 1 + max(image.shape[:2]) // 64
    low, high = np.percentile(image[::step, ::step], _NEARLY_ALL)
    if high - low >= _FADED:
        return image
    gain = min(255 / max(high - low, 1.0), _MOST)
    values = (np.arange(256) - (low + high) / 2) * gain + 127.5
    return np.asarray(cv2.LUT(image, np.clip(np.rint(values), 0, 255).astype(np.uint8)), np.uint8)
