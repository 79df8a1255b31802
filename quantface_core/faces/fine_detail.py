"""Detail in a photo that is finer than the restorer's crop: how much of it is kept.

Neither the crop nor its restoration contains it, so it would pass through unchanged, block edges included. How much is
kept is decided by what became of the crop's own finest detail (`blend.kept_detail`); of a face enlarged by repeating
pixels nothing is. Noise is removed before (`clean`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Crop, Pixels, Plane
from .align import Matrix, footprint, magnification, warp_into
from .area import Area

_STEPS = 0.25  # of the mean difference between neighbours: where pixels were repeated, most differences are smaller


@dataclass(frozen=True)
class FineDetail:
    """The detail of a larger photo that its crop cannot contain, and how much of it to keep."""

    crop: Crop  # the photo without this detail
    keep: Plane  # [S, S] in 0 to 1, the share to keep


def is_blocks(photo: Pixels, size: int, to_photo: Matrix) -> bool:
    """Whether the detail finer than a face's crop of `size` pixels is nothing but the edges of repeated pixels."""
    if magnification(to_photo) <= 1:
        return False
    face = footprint(to_photo, size, photo.shape[1], photo.shape[0])
    # Smaller blocks hold detail that the crop does not.
    return not face.is_empty and _repeated(photo[face.pixels]) >= magnification(to_photo)


def removed_detail(area: Area, photo: Pixels, fine_detail: FineDetail, to_photo: Matrix) -> NDArray[np.float32]:
    """The finer detail to remove from an area of the photo, [h, w, 3] in shares of full white."""
    keep = np.clip(warp_into(area, fine_detail.keep, to_photo, cv2.BORDER_REPLICATE), 0, 1)
    detail = np.divide(photo[area.pixels], np.float32(np.iinfo(photo.dtype).max), dtype=np.float32)
    detail -= warp_into(area, fine_detail.crop, to_photo, cv2.BORDER_REPLICATE)
    detail *= (1 - keep)[..., None]
    return detail


def _repeated(region: Pixels) -> float:
    """The factor by which an image was enlarged by repeating pixels, so that most neighbouring rows and columns are
    equal; 1 = it was not."""
    gray, times = cv2.cvtColor(region, cv2.COLOR_RGB2GRAY).astype(np.float32), []
    for axis in (0, 1):
        steps = np.abs(np.diff(gray, axis=axis)).mean(1 - axis)
        if steps.size < 2 or float(np.median(steps)) >= _STEPS * float(steps.mean()):
            return 1.0
        times.append(steps.size / float((steps > steps.mean()).sum()))
    return min(times)
