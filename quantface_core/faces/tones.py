"""Show a faded, foggy or dark face to the restorer in ordinary tones, and bring its changes back to the photo's.

Restorers draw eyes, brows and teeth at the contrast of ordinary portraits, whatever the photo's, and the blend network
has learned from such portraits. One affine map for all channels leaves hues alone; faces of ordinary contrast, nearly
all there are, are not mapped. The map is continuous in the face's contrast, so that films do not flicker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Crop
from .color import luma
from .paste import face_mask

_DEVIATIONS, _SHOWN = (0.08, 0.12), (0.17, 0.12)  # of a face's luma; ordinary portraits have 0.14 and more
_MOST = 8.0  # gain, beyond which a face is mostly rounding and noise
_MEANS = (0.36, 0.66)  # of an ordinary face's luma


@dataclass(frozen=True)
class Tones:
    """How a face's tones are shown to the restorer: `gain * x + offset`; with a gain of 1 as they are."""

    gain: float
    offset: float

    def shown(self, crop: Crop) -> Crop:
        """A crop [S, S, 3] in the tones that the restorer sees, 0 to 1."""
        if self.gain == 1:
            return crop
        return np.clip(self.gain * crop + self.offset, 0, 1, dtype=np.float32)

    def restored(self, crop: Crop, after: Crop) -> Crop:
        """A crop with the change, in its own tones, from how it is shown to `after`. What was clipped stays."""
        if self.gain == 1:
            return after
        return crop + (after - self.shown(crop)) / np.float32(self.gain)


def tones_of(crop: Crop) -> Tones:
    """How to show a face's crop [S, S, 3] in 0 to 1: one of ordinary contrast as it is."""
    weights, values = face_mask(len(crop)), luma(crop)
    mean = float(np.average(values, weights=weights))
    deviation = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    gain = min(_MOST, float(np.interp(deviation, _DEVIATIONS, _SHOWN)) / max(deviation, 1e-6))
    if gain <= 1:
        return Tones(1.0, 0.0)
    return Tones(gain, float(np.clip(mean, *_MEANS)) - gain * mean)
