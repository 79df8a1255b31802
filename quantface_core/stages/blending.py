"""What to change of a face, from its crop before, denoised, and restored: for photos, and for the frames of films."""

from __future__ import annotations

import numpy as np

from ..faces.blend import blend_share, kept_detail
from ..faces.contrast import ContrastStretch
from ..faces.fine_detail import FineDetail
from ..types import Crop, Plane


def choose_share(clean: Crop, after: Crop, stretch: ContrastStretch, strength: float | str) -> Plane:
    """The share [S, S] of a restoration to apply to a denoised crop, [S, S, 3] in 0 to 1 as `after`.

    The blend network sees both stretched, as the restorer did. Raises ModelError when it cannot be loaded.
    """
    if isinstance(strength, str):
        return blend_share(stretch.apply(clean), stretch.apply(after))
    return np.full(clean.shape[:2], strength, np.float32)


def blended_change(
    before: Crop, clean: Crop, after: Crop, share: Plane, strength: float | str, fade: float = 1.0
) -> Crop:
    """The change to a crop: its noise removed, then a share of the restoration, which `share` has faded already.

    With strength "auto" all noise is removed, at a given strength as much of it as of the restoration is applied.
    """
    removed = fade if isinstance(strength, str) else fade * strength
    change: Crop = share[..., None] * (after - clean)
    return change if clean is before else change + np.float32(removed) * (clean - before)


def fine_detail_of(before: Crop, change: Crop, strength: float | str) -> FineDetail:
    """How to treat a photo's detail finer than its crop.

    At a given strength it is kept, as the user may want its texture over the face, and damage removed as strongly.
    """
    if isinstance(strength, str):
        return FineDetail(before, kept_detail(before, before + change))
    return FineDetail(before, np.ones(before.shape[:2], np.float32), removal=strength)
