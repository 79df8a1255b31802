"""Match the colours of a restored face to the photo it came from; faces of black and white photos stay without."""

from __future__ import annotations

import cv2
import numpy as np

from ..errors import UsageError
from ..options import COLORS
from ..types import Crop, Pixels, Plane

_GRAY = 0.004  # largest mean spread of a black and white photo's channels, as a share of white: compression causes some


def match_color(restored: Crop, reference: Crop, method: str) -> Crop:
    """Match `restored` to `reference`, both [S, S, 3] in 0 to 1. Raises UsageError for an unknown method."""
    if method == "none":
        return restored
    if method == "adain":
        return _adain(restored, reference)
    if method == "wavelet":
        return restored - _low_frequencies(restored) + _low_frequencies(reference)
    raise UsageError(f"unknown colour matching {method!r}: choose one of {', '.join(COLORS)}")


def _adain(restored: Crop, reference: Crop) -> Crop:
    """Give each channel the reference's mean and standard deviation (AdaIN)."""
    mean, deviation = restored.mean((0, 1)), restored.std((0, 1))
    target_mean, target_deviation = reference.mean((0, 1)), reference.std((0, 1))
    return (restored - mean) * (target_deviation / np.maximum(deviation, 1e-5)) + target_mean


def _low_frequencies(image: Crop) -> Crop:
    """The residual of an a-trous wavelet decomposition, after removing its detail levels down to 1/16 of the side."""
    levels = max(1, round(np.log2(image.shape[0] / 16)))
    for level in range(levels):
        kernel = np.zeros(2 * 2**level + 1, np.float32)
        kernel[[0, 2**level, -1]] = 0.25, 0.5, 0.25
        image = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return image


def is_gray(pixels: Pixels | Crop) -> bool:
    """Whether a photo, or a float crop in 0 to 1, is black and white; if so, its restoration is kept so."""
    white = 1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype.name).max
    sample = pixels[:: max(1, pixels.shape[0] // 512), :: max(1, pixels.shape[1] // 512)].astype(np.float32)
    red, green, blue = cv2.split(sample)  # numpy is many times slower along an axis of length 3
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return float(spread.mean()) < _GRAY * white


def luma(crop: Crop) -> Plane:
    """The luma (Rec. 601) of a crop or a change [S, S, 3]: [S, S]."""
    values: Plane = crop @ np.array([0.299, 0.587, 0.114], np.float32)
    return values
