"""Temporal bilateral filter over the frames of a face: suppresses flicker, preserves motion.

Crops [S, S, 3] are float32 in 0 to 1. Each crop of a track shows the face at the same place, so its neighbours in time
are further observations of the same skin. A neighbour counts by its distance in frames and, pixel by pixel, by how far
the *unrestored* crops are similar there within their noise: an eye that closes or a mouth that speaks differs, and is
left to its own frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Crop = NDArray[np.float32]

# Frames are compared without their finest detail and at half the size of a crop of 256: a restorer's flicker is finer
# than what moves.
_COMPARE_SIGMA = 2.0  # pixels of a crop of 256
_COMPARE_SIZE = 128  # pixels
_NOISE_SCALE = 3.0  # times the estimated noise: a difference up to about that still counts as none
# Of full white. Eight bits round even a noiseless film, and in a film of much noise a small motion must still differ.
_MIN_TOLERANCE, _MAX_TOLERANCE = 1.5 / 255, 12 / 255


def gaussian(offset: float, sigma: float) -> float:
    """exp(-offset^2 / (2 sigma^2)), both in frames; with a sigma of 0 it is 1 at 0 and 0 elsewhere."""
    return float(np.exp(-0.5 * (offset / sigma) ** 2)) if sigma else float(offset == 0)


def downsample(crop: Crop) -> Crop:
    """A crop [S, S, 3], blurred and reduced to [128, 128, 3], as it is compared with its neighbours."""
    blurred = cv2.GaussianBlur(crop, (0, 0), _COMPARE_SIGMA * len(crop) / 256)
    small: Crop = cv2.resize(blurred, (_COMPARE_SIZE, _COMPARE_SIZE), interpolation=cv2.INTER_AREA)
    return small


def similarity(a: Crop, b: Crop, noise: float) -> Crop:
    """How similar two downsampled crops are at each pixel, [128, 128] in 0 to 1; `noise` as `estimate_noise` gives."""
    tolerance = float(np.clip(_NOISE_SCALE * noise, _MIN_TOLERANCE, _MAX_TOLERANCE))
    mean_square = np.square(a - b).mean(2)
    similar: Crop = np.exp(-mean_square / (2 * tolerance * tolerance)).astype(np.float32)
    return similar


def estimate_noise(references: Sequence[Crop]) -> float:
    """The noise of successive downsampled crops: the median over frames of a median root mean square difference.

    0 for one crop.
    """
    rms = [float(np.median(np.sqrt(np.square(a - b).mean(2)))) for a, b in pairwise(references)]
    return float(np.median(rms)) if rms else 0.0


def temporal_average(crops: Sequence[Crop], references: Sequence[Crop], index: int, sigma: float) -> Crop:
    """The crop at `index` averaged with its neighbours in time where they are similar, [S, S, 3].

    `references` are the unrestored crops of the same frames, each through `downsample`. `sigma`, in frames, is the
    standard deviation of the weights in time; 0 = off: the crop as it is.
    """
    size = (len(crops[index]), len(crops[index]))
    noise = estimate_noise(references)
    total, weights = crops[index].copy(), np.ones(size, np.float32)
    for number, crop in enumerate(crops):
        temporal_weight = gaussian(number - index, sigma)
        if number == index or temporal_weight < 0.01:
            continue
        similar = similarity(references[index], references[number], noise)
        weight = temporal_weight * cv2.resize(similar, size, interpolation=cv2.INTER_LINEAR)
        total += weight[..., None] * crop
        weights += weight
    return total / weights[..., None]
