"""Put restored faces back into their photo, so that nobody sees where.

What is pasted is the *change*, restored minus cropped, through a soft mask shaped like a face. Where the
restorer changed nothing, nothing changes, whatever the mask; and of what a photo holds beyond the restorer's own
resolution, which is in neither crop, a patch says how much is detail to keep and how much noise to drop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Pixels
from .align import Matrix, compose, footprint, magnification, shift, warp
from .fine_detail import FineDetail, removed_detail

Region = tuple[slice, slice]

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
    covered, weight = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    placed = []
    for patch in patches:
        size = len(patch.mask)
        left, top, right, bottom = footprint(patch.to_photo, size, width, height)
        if left >= right or top >= bottom:
            continue
        place = compose(shift(-left, -top), patch.to_photo)
        # Replicated past the crop: a face mask ends at 0 there, an aligned picture's stays 1.
        soft = warp(patch.mask, place, right - left, bottom - top, cv2.BORDER_REPLICATE)
        soft = np.where(soft > 1 / 512, np.minimum(soft, 1), 0).astype(np.float32)
        change = warp(patch.change, place, right - left, bottom - top, cv2.BORDER_REPLICATE)
        region = np.s_[top:bottom, left:right]
        if patch.fine_detail is not None and magnification(patch.to_photo) > 1:
            change -= removed_detail(base[region], patch.fine_detail, place)
        fineness = soft / magnification(patch.to_photo) ** 2
        covered[region] += soft
        weight[region] += fineness
        placed.append((region, fineness[..., None] * change))
    result = base.copy()
    white = np.iinfo(base.dtype).max
    for region, _ in placed:
        # Region by region, so that a photo of 100 megapixels needs no second one in float.
        total = np.zeros_like(base[region], np.float32)
        for other, change in placed:
            _add_overlap(total, region, other, change)
        touched = weight[region] > 0
        share = np.minimum(covered[region], 1) / np.where(touched, weight[region], 1)
        value = base[region].astype(np.float32) + total * share[..., None] * white
        result[region][touched] = np.clip(np.rint(value[touched]), 0, white).astype(base.dtype)
    return result, np.minimum(covered, 1)


def _add_overlap(total: NDArray[np.float32], region: Region, other: Region, change: NDArray[np.float32]) -> None:
    """Add to `total`, which covers `region`, the part of `change`, which covers `other`, that they share."""
    starts = [max(a.start, b.start) for a, b in zip(region, other, strict=True)]
    stops = [max(start, min(a.stop, b.stop)) for start, a, b in zip(starts, region, other, strict=True)]
    here, there = (
        tuple(slice(start - own.start, stop - own.start) for start, stop, own in zip(starts, stops, owner, strict=True))
        for owner in (region, other)
    )
    total[here] += change[there]
