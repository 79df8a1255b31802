"""A track's restored crops made steady in time: what flickers is averaged, what moves stays.

Each crop of a track shows the face at the same place, so its neighbours in time are further looks at the same skin. A
neighbour counts, pixel by pixel, as far as the *unrestored* crops agree there beyond their noise: an eye that closes
or a mouth that speaks differs, and is left to its own frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Crop = NDArray[np.float32]

_BLUR = 2.0  # pixels of a crop of 256 over which two frames are compared: a restorer's flicker is finer
_NOISE = 3.0  # times the usual difference between neighbours that still counts as none
_LEAST, _MOST = 1.5 / 255, 12 / 255  # bounds of that difference
_SIDE = 128  # pixels at which crops are compared


def gaussian(offset: float, sigma: float) -> float:
    """Unnormalized; 1 at 0."""
    return float(np.exp(-0.5 * (offset / sigma) ** 2)) if sigma else float(offset == 0)


def coarse(crop: Crop) -> Crop:
    """A crop [S, S, 3] as it is compared with its neighbours, [128, 128, 3]."""
    blurred = cv2.GaussianBlur(crop, (0, 0), _BLUR * len(crop) / 256)
    small: Crop = cv2.resize(blurred, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return small


def agreement(a: Crop, b: Crop, usual: float) -> Crop:
    """How far two coarse crops show the same, pixel by pixel, in 0 to 1; `usual` is the difference that noise makes."""
    width = float(np.clip(_NOISE * usual, _LEAST, _MOST))
    apart = np.square(a - b).mean(2)
    same: Crop = np.exp(-apart / (2 * width * width)).astype(np.float32)
    return same


def usual_difference(crops: Sequence[Crop]) -> float:
    """What noise makes of coarse crops of successive frames: the median difference. 0 for one crop."""
    apart = [float(np.median(np.sqrt(np.square(a - b).mean(2)))) for a, b in pairwise(crops)]
    return float(np.median(apart)) if apart else 0.0


def steadied(crops: Sequence[Crop], looks: Sequence[Crop], here: int, sigma: float) -> Crop:
    """The crop at position `here` among its neighbours in time, [S, S, 3], averaged where they agree.

    `looks` are the coarse unrestored crops of the same frames.
    """
    size = (len(crops[here]), len(crops[here]))
    usual = usual_difference(looks)
    total, weight = crops[here].copy(), np.ones(size, np.float32)
    for number, crop in enumerate(crops):
        share = gaussian(number - here, sigma)
        if number == here or share < 0.01:
            continue
        same = share * cv2.resize(agreement(looks[here], looks[number], usual), size, interpolation=cv2.INTER_LINEAR)
        total += same[..., None] * crop
        weight += same
    return total / weight[..., None]
