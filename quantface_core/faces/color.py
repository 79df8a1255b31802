"""Give a restored face the colours of the photo it came from."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError

Crop = NDArray[np.float32]
METHODS = ("none", "adain", "wavelet")


def match_color(restored: Crop, reference: Crop, method: str) -> Crop:
    """Match `restored` to `reference`, both [S, S, 3] in 0 to 1. Raises UsageError for an unknown method."""
    if method == "none":
        return restored
    if method == "adain":
        return _adain(restored, reference)
    if method == "wavelet":
        return restored - _low_frequencies(restored) + _low_frequencies(reference)
    raise UsageError(f"unknown colour matching {method!r}: choose one of {', '.join(METHODS)}")


def _adain(restored: Crop, reference: Crop) -> Crop:
    """Each channel takes on the reference's mean and standard deviation."""
    mean, deviation = restored.mean((0, 1)), restored.std((0, 1))
    target_mean, target_deviation = reference.mean((0, 1)), reference.std((0, 1))
    return (restored - mean) * (target_deviation / np.maximum(deviation, 1e-5)) + target_mean


def _low_frequencies(image: Crop) -> Crop:
    """What is left after splitting off the detail levels of an a-trous wavelet, down to 1/16 of the side."""
    levels = max(1, round(np.log2(image.shape[0] / 16)))
    for level in range(levels):
        kernel = np.zeros(2 * 2**level + 1, np.float32)
        kernel[[0, 2**level, -1]] = 0.25, 0.5, 0.25
        image = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return image
