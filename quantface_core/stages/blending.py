"""What to change of a face, from its crop without noise, and restored: for photos, and for the frames of films."""

from __future__ import annotations

import numpy as np

from ..faces.align import Matrix
from ..faces.blend import blend_share, kept_detail
from ..faces.clean import CleanFace
from ..faces.contrast import ContrastStretch
from ..faces.fine_detail import FineDetail
from ..faces.sharpness import sharpness
from ..options import RestoreOptions
from ..types import Crop, Pixels, Plane


def choose_share(
    clean: Crop, after: Crop, stretch: ContrastStretch, strength: float | str, sharp: float = 0.0
) -> Plane:
    """The share [S, S] of a restoration to apply to a crop without noise, [S, S, 3] in 0 to 1 as `after`.

    With strength "auto", the less, the sharper the face is in its photo's pixels. The blend network sees both crops
    stretched, as the restorer did. Raises ModelError when it cannot be loaded.
    """
    if isinstance(strength, str):
        return np.float32(1 - sharp) * blend_share(stretch.apply(clean), stretch.apply(after))
    return np.full(clean.shape[:2], strength, np.float32)


def sharpness_of(
    photo: Pixels, face: CleanFace | None, mask: Plane, to_photo: Matrix, options: RestoreOptions
) -> float:
    """How sharp a face of a photo is in the pixels that it keeps, 0 to 1; 0 for one that is cleaned or enlarged.

    Only strength "auto" asks: at a number it is not measured, and 0.
    """
    if options.upscale > 1 or not isinstance(options.strength, str):
        return 0.0
    return (1 - face.share if face else 1.0) * sharpness(photo, mask, to_photo)


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
