"""A photo enhanced for the detector: descreened, or with its contrast stretched."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SCREEN = 2.0  # sigma in pixels of the blur that merges the dots of a halftone screen
# Nearly all values (these percentiles) of a faded picture lie within so few levels. They are stretched to all 256, but
# no more than so many times: at less than 0.15 of a photo's contrast the detector misses faces or doubts them.
_NEARLY_ALL, _FADED, _MOST = (2, 98), 64, 8.0


def descreened(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image [H, W, 3] without the dots of a halftone screen, in which no face is found otherwise."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), _SCREEN), np.uint8)


def contrast_stretched(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A faded image [H, W, 3] at full contrast; the same array if it is not faded."""
    step = 1 + max(image.shape[:2]) // 64
    low, high = np.percentile(image[::step, ::step], _NEARLY_ALL)
    if high - low >= _FADED:
        return image
    gain = min(255 / max(high - low, 1.0), _MOST)
    values = (np.arange(256) - (low + high) / 2) * gain + 127.5
    return np.asarray(cv2.LUT(image, np.clip(np.rint(values), 0, 255).astype(np.uint8)), np.uint8)
