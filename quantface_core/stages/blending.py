"""What to change of a face, from its crop without noise, and restored: for photos, and for the frames of films."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..faces.blend import blend_share, kept_detail
from ..faces.clean import CleanFace
from ..faces.contrast import ContrastStretch
from ..faces.fine_detail import FineDetail
from ..faces.sharpness import sharpness
from ..options import RestoreOptions
from ..types import Crop, Pixels, Plane
from .cut_face import CutFace


@dataclass(frozen=True, eq=False)
class Blending:
    """How restored faces are blended in: as far as the user's options say, within a crop's mask."""

    options: RestoreOptions
    mask: Plane  # [S, S] in 0 to 1

    @property
    def is_automatic(self) -> bool:
        """Whether how much is changed is decided per pixel (strength "auto")."""
        return isinstance(self.options.strength, str)

    def removal(self, face: CleanFace) -> float:
        """The share of a face's damage to remove: with strength "auto" all, otherwise as much as of the restoration;
        of noise, the options' share of grain stays."""
        strength = 1.0 if isinstance(self.options.strength, str) else self.options.strength
        return strength * (1 - self.options.grain) if face.removed == "noise" else strength

    def sharpness(self, image: Pixels, face: CutFace) -> float:
        """How sharp a face of an image is in the pixels that it keeps, 0 to 1; 0 for one that is cleaned or enlarged.

        Only strength "auto" asks: at a number it is not measured, and 0.
        """
        if self.options.upscale > 1 or not self.is_automatic:
            return 0.0
        return (1 - face.cleaned.share if face.cleaned else 1.0) * sharpness(image, self.mask, face.to_image)

    def share(self, clean: Crop, after: Crop, stretch: ContrastStretch, sharp: float = 0.0) -> Plane:
        """The share [S, S] of a restoration to apply to a crop without noise, [S, S, 3] in 0 to 1 as `after`.

        With strength "auto", the less, the sharper the face is in its photo's pixels. The blend network sees both crops
        stretched, as the restorer did. Raises ModelError when it cannot be loaded.
        """
        if isinstance(self.options.strength, str):
            return np.float32(1 - sharp) * blend_share(stretch.apply(clean), stretch.apply(after))
        return np.full(clean.shape[:2], self.options.strength, np.float32)

    def fine_detail(self, before: Crop, change: Crop) -> FineDetail | None:
        """How to treat a photo's detail finer than its crop; None to keep it.

        At a given strength it is kept, as the user may want its texture over the face.
        """
        return FineDetail(before, kept_detail(before, before + change)) if self.is_automatic else None
