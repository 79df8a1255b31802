"""Denoise a face for its restorer, which takes the white noise of high ISO for texture, and draws it.

Enlarging makes the noise of a small face coarse, so such a face is denoised in the photo's own pixels, and any other in
its crop. What is fine in the photo and beyond the crop is `fine_detail`'s.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Crop, Pixels, Plane
from .align import Matrix, compose, extract, footprint, invert, magnification, shift, warp_into
from .noise import noise_level, wiener_gain

_SIGMA, _WINDOW = 1.2, 5  # in pixels: detail is finer than this blur, and its energy a mean over this window
_SUPPRESSION = 1.2  # of noise, see `wiener_gain`: the restorer removes specks, and needs what is sharp
_SMALLEST = 96  # pixels of the photo, side of a crop: in a smaller one, features are as fine as noise
_MARGIN = 4  # pixels around a crop that its interpolation and the filter read


def denoised(crop: Crop, photo: Pixels, mask: Plane, to_crop: Matrix) -> Crop:
    """A face's crop [S, S, 3], which `extract` made of the photo by `to_crop`, without the photo's noise.

    It is measured within the mask [S, S]. Returns the same array where there is nothing to remove.
    """
    to_photo, size = invert(to_crop), len(crop)
    enlarged = 1 / magnification(to_photo)
    if size < _SMALLEST * enlarged:
        return crop
    if enlarged < 1:
        return _filtered(crop, mask > 0.5)
    area = footprint(to_photo, size, photo.shape[1], photo.shape[0], _MARGIN)
    white = np.iinfo(photo.dtype).max
    region = np.divide(photo[area.pixels], np.float32(white), dtype=np.float32)
    clean = _filtered(region, warp_into(area, mask, to_photo, cv2.BORDER_CONSTANT) > 0.5)
    if clean is region:
        return crop
    pixels = np.rint(clean.clip(0, 1) * white).astype(photo.dtype)
    return extract(pixels, compose(to_crop, shift(area.left, area.top)), size)


def _filtered(image: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """An image [h, w, 3] in 0 to 1 after a Wiener filter; the same array if there is no noise `inside` [h, w]."""
    soft = cv2.GaussianBlur(image, (0, 0), _SIGMA)
    detail = image - soft
    energy = cv2.blur(np.square(detail).mean(2), (_WINDOW, _WINDOW))
    noise = noise_level(energy[inside])
    if not noise:
        return image
    clean: NDArray[np.float32] = soft + wiener_gain(energy, noise, _SUPPRESSION)[..., None] * detail
    return clean
