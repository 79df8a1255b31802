"""Stretch the contrast of a faded, foggy or dark face for the restorer, and compress its change again.

Restorers draw eyes, brows and teeth at the contrast of ordinary portraits, whatever the photo's, and the blend network
has learned from such portraits. One affine map for all channels preserves hues; faces of ordinary contrast, nearly all
there are, are not mapped. The map is continuous in the face's contrast, so that films do not flicker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Crop
from .color import luma
from .paste import face_mask

_DEVIATIONS, _STRETCHED = (0.08, 0.12), (0.17, 0.12)  # of a face's luma; ordinary portraits have 0.14 and more
_MOST = 8.0  # gain, beyond which a face is mostly rounding and noise
_MEANS = (0.36, 0.66)  # of an ordinary face's luma


@dataclass(frozen=True)
class ContrastStretch:
    """The map `gain * x + offset` of a face's pixel values, 0 to 1; with a gain of 1 the identity."""

    gain: float
    offset: float

    def apply(self, crop: Crop) -> Crop:
        """A crop [S, S, 3] stretched, clipped to 0 to 1."""
        if self.gain == 1:
            return crop
        return np.clip(self.gain * crop + self.offset, 0, 1, dtype=np.float32)

    def undo(self, crop: Crop, restored: Crop) -> Crop:
        """A crop plus the compressed change from its stretched form to `restored`; what was clipped stays as it is."""
        if self.gain == 1:
            return restored
        return crop + (restored - self.apply(crop)) / np.float32(self.gain)


IDENTITY = ContrastStretch(1.0, 0.0)


def contrast_stretch(crop: Crop) -> ContrastStretch:
    """The stretch that a face's crop [S, S, 3] in 0 to 1 needs: the identity for ordinary contrast."""
    weights, values = face_mask(len(crop)), luma(crop)
    mean = float(np.average(values, weights=weights))
    deviation = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    gain = min(_MOST, float(np.interp(deviation, _DEVIATIONS, _STRETCHED)) / max(deviation, 1e-6))
    if gain <= 1:
        return IDENTITY
    return ContrastStretch(gain, float(np.clip(mean, *_MEANS)) - gain * mean)
