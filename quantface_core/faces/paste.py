"""Paste restored faces back into their photo without visible seams.

What is pasted is the *change*, restored minus original crop, through a soft face-shaped mask: where the restorer
changed nothing, the photo does not change, whatever the mask. For the photo's detail beyond the restorer's resolution,
which neither crop contains, a patch says how much is detail to keep and how much noise to remove.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray

from ..options import RestoreOptions
from ..types import Pixels, Plane
from .align import Matrix, footprint, magnification, warp_into
from .area import Area
from .fine_detail import FineDetail, removed_detail

# The mask's ellipse in shares of the crop's side: an FFHQ-aligned head from hairline to below the chin.
_CENTRE, _RADII = (0.5, 0.53), (0.43, 0.46)


@dataclass(frozen=True)
class Patch:
    """The change to one face, ready to paste."""

    change: NDArray[np.float32]  # [S, S, 3], restored minus original crop, in shares of full white
    mask: NDArray[np.float32]  # [S, S] in 0 to 1
    to_photo: Matrix  # from the crop's pixels to the output's
    fine_detail: FineDetail | None = None  # how to treat detail finer than the crop; None = keep it all


def face_mask(size: int, feather: float = RestoreOptions.feather) -> NDArray[np.float32]:
    """A soft ellipse over an aligned face, [size, size]: 1 inside, exactly 0 from the rim outwards.

    `feather` is the share of the radius over which it fades out: 0 = a hard edge, 1 = from the centre.
    """
    axis = (np.arange(size) + 0.5) / size
    radius = np.hypot(*np.meshgrid((axis - _CENTRE[0]) / _RADII[0], (axis - _CENTRE[1]) / _RADII[1]))
    ramp = np.clip((1 - radius) / max(feather, 1 / size), 0, 1)  # the ramp is at least a pixel or two wide
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)


def mask_over(area: Area, mask: Plane, to_photo: Matrix) -> Plane:
    """A crop's mask [S, S] mapped onto an area of the photo, [h, w]; values near 0 are exactly 0."""
    # Border replicated: a face mask is 0 at the crop's border, that of an aligned image stays 1.
    soft = warp_into(area, mask, to_photo, cv2.BORDER_REPLICATE)
    return np.where(soft > 1 / 512, np.minimum(soft, 1), 0).astype(np.float32)


def paste(base: Pixels, patches: Sequence[Patch]) -> tuple[Pixels, NDArray[np.float32]]:
    """Add all patches to a photo [H, W, 3], uint8 or uint16; returns (a new photo, the mask [H, W] of what may have
    changed, 0 to 1).

    Where masks overlap, changes are averaged, those of finer crops weighing more: a face in front of a larger one on a
    poster is not part of it. The result does not depend on the order of patches. Pixels with mask 0 keep their exact
    values.
    """
    height, width = base.shape[:2]
    faces = [footprint(patch.to_photo, len(patch.mask), width, height) for patch in patches]
    result, mask = base.copy(), np.zeros((height, width), np.float32)
    for tile in Area(0, 0, width, height).tiles():
        overlaps = zip(patches, (face.intersection(tile) for face in faces), strict=True)
        if parts := [(patch, part) for patch, part in overlaps if not part.is_empty]:
            area = reduce(Area.union, (part for _, part in parts))
            result[area.pixels], mask[area.pixels] = _paste_into(base, area, parts)
    return result, mask


def _paste_into(base: Pixels, area: Area, parts: Sequence[tuple[Patch, Area]]) -> tuple[Pixels, NDArray[np.float32]]:
    """(an area of the photo with the given parts of patches pasted, its mask)."""
    width, height = area.size
    covered, weight = np.zeros((2, height, width), np.float32)
    total = np.zeros((height, width, 3), np.float32)
    for patch, part in parts:
        soft = mask_over(part, patch.mask, patch.to_photo)
        change = warp_into(part, patch.change, patch.to_photo, cv2.BORDER_REPLICATE)
        if patch.fine_detail is not None and magnification(patch.to_photo) > 1:
            change -= removed_detail(part, base, patch.fine_detail, patch.to_photo)
        fineness = soft / magnification(patch.to_photo) ** 2
        here = part.relative_to(area).pixels
        covered[here] += soft
        weight[here] += fineness
        total[here] += fineness[..., None] * change
    white, pixels = np.iinfo(base.dtype).max, base[area.pixels]
    touched = weight > 0
    share = np.minimum(covered, 1) / np.where(touched, weight, 1)
    value = np.clip(np.rint(pixels + total * share[..., None] * white), 0, white).astype(base.dtype)
    return np.where(touched[..., None], value, pixels), np.minimum(covered, 1)
