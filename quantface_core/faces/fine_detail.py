"""Detail in a photo that is finer than the restorer's crop: how much of it is kept.

Neither the crop nor its restoration contains it, so it would pass through unchanged. How much is kept is decided by
what became of the crop's own finest detail (`blend.kept_detail`). Noise and blocks are removed before (`clean`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bit_depth import in_shares
from ..types import Crop, Pixels, Plane
from .align import Matrix, warp_into
from .area import Area


@dataclass(frozen=True)
class FineDetail:
    """The detail of a larger photo that its crop cannot contain, and how much of it to keep."""

    crop: Crop  # the photo without this detail
    keep: Plane  # [S, S] in 0 to 1, the share to keep


def removed_detail(area: Area, photo: Pixels, fine_detail: FineDetail, to_photo: Matrix) -> NDArray[np.float32]:
    """The finer detail to remove from an area of the photo, [h, w, 3] in shares of full white."""
    keep = np.clip(warp_into(area, fine_detail.keep, to_photo, cv2.BORDER_REPLICATE), 0, 1)
    detail = in_shares(photo[area.pixels])
    detail -= warp_into(area, fine_detail.crop, to_photo, cv2.BORDER_REPLICATE)
    detail *= (1 - keep)[..., None]
    return detail
