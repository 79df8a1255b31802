"""Put restored faces back into their photo, so that nobody sees where.

What is pasted is the *change*, restored minus cropped, through a soft mask shaped like a face. Where the
restorer changed nothing, nothing changes, whatever the mask; and of what a photo holds beyond the restorer's own
resolution, which is in neither crop, a patch says how much is detail to keep and how much noise to drop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Pixels
from .align import Matrix, footprint, magnification, warp_into
from .area import Area
from .fine_detail import FineDetail, removed_detail

# The mask's ellipse in shares of the crop's side: an FFHQ-aligned head from hairline to below the chin.
_CENTRE, _RADII = (0.5, 0.53), (0.43, 0.46)
FEATHER = 0.32  # of the radius: over this share the mask falls to 0 at the rim


@dataclass(frozen=True)
class Patch:
    """The change to one face, ready to paste."""

    change: NDArray[np.float32]  # [S, S, 3], restored minus cropped, in shares of full white
    mask: NDArray[np.float32]  # [S, S] in 0 to 1
    to_photo: Matrix  # from the crop's pixels to the output's
    fine_detail: FineDetail | None = None  # what becomes of detail finer than the crop; None = all of it is kept


def face_mask(size: int, feather: float = FEATHER) -> NDArray[np.float32]:
    """A soft ellipse over an aligned face: 1 inside, exactly 0 from the rim on; [size, size].

    `feather` is the share of the radius over which it fades: 0 = a hard rim, 1 = from the centre on.
    """
    axis = (np.arange(size) + 0.5) / size
    radius = np.hypot(*np.meshgrid((axis - _CENTRE[0]) / _RADII[0], (axis - _CENTRE[1]) / _RADII[1]))
    ramp = np.clip((1 - radius) / max(feather, 1 / size), 0, 1)  # never steeper than a pixel or two
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)


def paste(base: Pixels, patches: Sequence[Patch]) -> tuple[Pixels, NDArray[np.float32]]:
    """Add all patches to a photo [H, W, 3]; returns (a new photo, the mask of what may have changed [H, W]).

    Where masks overlap they share, the finer crop taking more: a face before a poster's is no part of that one. The
    result does not depend on the order. Pixels with mask 0 keep their exact values.
    """
    height, width = base.shape[:2]
    faces = [footprint(patch.to_photo, len(patch.mask), width, height) for patch in patches]
    result, mask = base.copy(), np.zeros((height, width), np.float32)
    for tile in Area(0, 0, width, height).tiles():
        overlaps = zip(patches, (face.overlap(tile) for face in faces), strict=True)
        if parts := [(patch, part) for patch, part in overlaps if not part.is_empty]:
            area = reduce(Area.around, (part for _, part in parts))
            result[area.pixels], mask[area.pixels] = _pasted(base, area, parts)
    return result, mask


def _pasted(base: Pixels, area: Area, parts: Sequence[tuple[Patch, Area]]) -> tuple[Pixels, NDArray[np.float32]]:
    """An area of the photo with the patches' parts in it, and its mask."""
    width, height = area.size
    covered, weight = np.zeros((2, height, width), np.float32)
    total = np.zeros((height, width, 3), np.float32)
    for patch, part in parts:
        # Replicated past the crop: a face mask ends at 0 there, an aligned picture's stays 1.
        soft = warp_into(part, patch.mask, patch.to_photo, cv2.BORDER_REPLICATE)
        soft = np.where(soft > 1 / 512, np.minimum(soft, 1), 0).astype(np.float32)
        change = warp_into(part, patch.change, patch.to_photo, cv2.BORDER_REPLICATE)
        if patch.fine_detail is not None and magnification(patch.to_photo) > 1:
            change -= removed_detail(part, base, patch.fine_detail, patch.to_photo)
        fineness = soft / magnification(patch.to_photo) ** 2
        here = part.seen_from(area).pixels
        covered[here] += soft
        weight[here] += fineness
        total[here] += fineness[..., None] * change
    white, pixels = np.iinfo(base.dtype).max, base[area.pixels]
    touched = weight > 0
    share = np.minimum(covered, 1) / np.where(touched, weight, 1)
    value = np.clip(np.rint(pixels + total * share[..., None] * white), 0, white).astype(base.dtype)
    return np.where(touched[..., None], value, pixels), np.minimum(covered, 1)
