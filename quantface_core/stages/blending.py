"""What to change of a face, from its crop without noise, and restored: for photos, and for the frames of films."""

from __future__ import annotations

import numpy as np

from ..faces.blend import blend_share, kept_detail
from ..faces.contrast import ContrastStretch
from ..faces.fine_detail import FineDetail
from ..options import RestoreOptions
from ..types import Crop, Plane


def choose_share(clean: Crop, after: Crop, stretch: ContrastStretch, strength: float | str) -> Plane:
    """The share [S, S] of a restoration to apply to a crop without noise, [S, S, 3] in 0 to 1 as `after`.

    The blend network sees both stretched, as the restorer did. Raises ModelError when it cannot be loaded.
    """
    if isinstance(strength, str):
        return blend_share(stretch.apply(clean), stretch.apply(after))
    return np.full(clean.shape[:2], strength, np.float32)


def removal_of(removed_artifacts: str, options: RestoreOptions) -> float:
    """The share of a face's damage to remove: with strength "auto" all, otherwise as much as of the restoration; of
    noise, the options' share of grain stays."""
    strength = 1.0 if isinstance(options.strength, str) else options.strength
    return strength * (1 - options.grain) if removed_artifacts == "noise" else strength


def fine_detail_of(before: Crop, change: Crop, strength: float | str) -> FineDetail | None:
    """How to treat a photo's detail finer than its crop; None to keep it.

    At a given strength it is kept, as the user may want its texture over the face.
    """
    return FineDetail(before, kept_detail(before, before + change)) if isinstance(strength, str) else None
