"""Match the colours of a restored face to the photo it came from; faces of black and white photos stay without."""

from __future__ import annotations

from functools import reduce
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..options import COLORS
from ..types import Crop, Pixels, Plane

_GRAY = 0.004  # largest mean spread of a black and white photo's channels, as a share of white: compression causes some
_GRID = 64  # pixels, side of a crop's low frequencies in which blotches are looked for
_CHROMA_LEVELS = (2, 3)  # wavelet levels of that grid: the finest of the low frequencies
_SLIGHT = 1 / 255  # RMS of the finer of these levels, half of it of the next, up to which there are no blotches
_RIDGE = np.float32(1e-6)  # variance of colours below which none are told apart


def match_color(restored: Crop, reference: Crop, method: str) -> Crop:
    """Match `restored` to `reference`, both [S, S, 3] in 0 to 1. Raises UsageError for an unknown method."""
    if method == "none":
        return restored
    if method == "adain":
        return _adain(restored, reference)
    if method == "wavelet":
        return _wavelet(restored, reference)
    raise UsageError(f"unknown colour matching {method!r}: choose one of {', '.join(COLORS)}")


def _adain(restored: Crop, reference: Crop) -> Crop:
    """Give each channel the reference's mean and standard deviation (AdaIN)."""
    mean, deviation = restored.mean((0, 1)), restored.std((0, 1))
    target_mean, target_deviation = reference.mean((0, 1)), reference.std((0, 1))
    matched: NDArray[Any] = (restored - mean) * (target_deviation / np.maximum(deviation, 1e-5)) + target_mean
    return matched


def _wavelet(restored: Crop, reference: Crop) -> Crop:
    """Give the restored face the reference's low frequencies, except for blotches of colour from compression."""
    levels = range(max(1, round(np.log2(len(restored) / 16))))  # details are finer than 1/16 of the side
    low, difference = (reduce(_smooth, levels, x) for x in (restored, reference - restored))
    grid = [cv2.resize(x, (_GRID, _GRID), interpolation=cv2.INTER_AREA) for x in (low, difference)]
    blotches = cv2.resize(_blotches(*grid), restored.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return restored + difference - blotches


def _blotches(colors: Crop, difference: Crop) -> Crop:
    """The part of a photo's difference from its restoration that is blotches of colour, at low frequencies [64, 64, 3].

    They are coarser than other artefacts of compression. A restorer's own drift in hue, which is to be undone, follows
    the face's `colors`, or is slight; bands of chroma that differ by more are blotches, the more the more they differ.
    """
    chroma, slight = _unexplained(difference - luma(difference)[..., None], colors), _SLIGHT
    blotches: Crop = np.zeros_like(difference)
    for level in _CHROMA_LEVELS:
        coarser = _smooth(chroma, level)
        band = chroma - coarser
        blotches += max(0.0, 1 - slight**2 / max(float(np.square(band).mean()), 1e-12)) * band
        chroma, slight = coarser, slight / 2
    return blotches


def _unexplained(values: Crop, colors: Crop) -> Crop:
    """What no affine function of a pixel's colours gives of its values, both [S, S, 3]."""
    x, y = ((image - image.mean((0, 1))).reshape(-1, 3) for image in (colors, values))
    coefficients = np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(3, dtype=np.float32), x.T @ y)
    rest: Crop = (y - x @ coefficients).reshape(values.shape)
    return rest


def _smooth(image: Crop, level: int) -> Crop:
    """One level of an a-trous wavelet decomposition: [1, 2, 1] / 4 along both axes, at pixels 2**level apart."""
    kernel = np.zeros(2 * 2**level + 1, np.float32)
    kernel[[0, 2**level, -1]] = 0.25, 0.5, 0.25
    return cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)


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
