"""Detail of a photo that is finer than the crop a restorer sees: how much of it is detail, how much is noise.

Neither the crop nor its restoration holds it, so it would come through as it is, noise and block edges included.
What stays is decided twice: by what became of the crop's own finest detail (`blend.kept_detail`), and here by
Wiener's rule, with the noise measured where the face is flattest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Pixels
from .align import Matrix, compose, footprint, magnification, shift, warp

Plane = NDArray[np.float32]

_FLATTEST = 10  # percent of a face where finer detail is taken for noise alone
_GRAIN = (4 / 255, 7 / 255)  # noise up to the first is a photo's own grain and stays; from the second on it goes
_SUPPRESSION = 2.0  # times the noise's energy that a place needs before its detail is any


@dataclass(frozen=True)
class Finer:
    """What a crop cannot hold of a larger photo, and how much of it is to stay."""

    crop: NDArray[np.float32]  # [S, S, 3] in shares of full white: the photo without it
    keep: Plane  # [S, S] in 0 to 1
    noise: float = 0.0  # standard deviation of its noise, in shares of full white; 0 = none to speak of


def with_noise(finer: Finer, photo: Pixels, mask: Plane, to_photo: Matrix) -> Finer:
    """The same with its noise measured inside the crop's mask [S, S]; none where the photo is no finer."""
    if magnification(to_photo) <= 1:
        return finer
    height, width = photo.shape[:2]
    left, top, right, bottom = footprint(to_photo, len(mask), width, height)
    if left >= right or top >= bottom:
        return finer
    place = compose(shift(-left, -top), to_photo)
    region = photo[top:bottom, left:right]
    inside = warp(mask, place, right - left, bottom - top, cv2.BORDER_CONSTANT) > 0.5
    energy = _energy(_detail(region, finer.crop, place), place)[inside]
    noise = float(np.sqrt(np.percentile(energy, _FLATTEST))) if energy.size else 0.0
    return replace(finer, noise=noise if noise > _GRAIN[0] else 0.0)


def dropped(region: Pixels, finer: Finer, place: Matrix) -> NDArray[np.float32]:
    """What a region [h, w, 3] of the photo loses of its finer detail, in shares of full white."""
    height, width = region.shape[:2]
    detail = _detail(region, finer.crop, place)
    keep = np.clip(warp(finer.keep, place, width, height, cv2.BORDER_REPLICATE), 0, 1)
    if finer.noise:
        ramp = min(1.0, (finer.noise - _GRAIN[0]) / (_GRAIN[1] - _GRAIN[0]))
        energy = np.maximum(_energy(detail, place), 1e-9)
        keep = keep * (1 - ramp * np.minimum(1, _SUPPRESSION * finer.noise**2 / energy))
    lost: NDArray[np.float32] = (1 - keep)[..., None] * detail
    return lost


def _detail(region: Pixels, crop: NDArray[np.float32], place: Matrix) -> NDArray[np.float32]:
    coarse = warp(crop, place, region.shape[1], region.shape[0], cv2.BORDER_REPLICATE)
    detail: NDArray[np.float32] = region.astype(np.float32) / np.iinfo(region.dtype).max - coarse
    return detail


def _energy(detail: NDArray[np.float32], place: Matrix) -> Plane:
    """Mean square of detail around every pixel, over two pixels of the crop."""
    side = max(5, int(2 * magnification(place)) | 1)
    energy: Plane = cv2.blur(np.square(detail).mean(2), (side, side))
    return energy
