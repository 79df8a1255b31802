"""Stretch the contrast of a faded, foggy, dark or red-lit face for the restorer, and compress its change again.

Restorers draw eyes, brows and teeth at the contrast of ordinary portraits, whatever the photo's, and the blend network
has learned from such portraits: in a slightly faded photo it would take engraved lines for detail. One affine map for
all channels preserves hues; three in four portraits have contrast enough and are not mapped. The map is continuous in
the face's contrast, so that films do not flicker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Crop
from .color import luma
from .light import ColoredLight, colored_light
from .paste import face_mask

_DARKEST, _LIGHTEST = 1, 99  # percentiles of a face's luma, between which its range is
_ORDINARY = 0.72  # this range in 0 to 1: three of four portraits have more
_MOST = 8.0  # gain, beyond which a face is mostly rounding and noise
_MEANS = (0.36, 0.66)  # of an ordinary face's luma
_SHIFTED = 1.5  # gain from which a stretched face has such a mean; below, as much of the way as of the gain


@dataclass(frozen=True)
class ContrastStretch:
    """The map `gain * x + offset` of a face's pixel values, 0 to 1; with a gain of 1 the identity.

    In coloured light it maps those of the face as it is seen there.
    """

    gain: float
    offset: float
    light: ColoredLight | None = None

    def apply(self, crop: Crop) -> Crop:
        """A crop [S, S, 3] stretched, clipped to 0 to 1."""
        seen = self.light.whitened(crop) if self.light else crop
        if self.gain == 1:
            return seen
        return np.clip(self.gain * seen + self.offset, 0, 1, dtype=np.float32)

    def undo(self, crop: Crop, restored: Crop) -> Crop:
        """A crop plus the compressed change from its stretched form to `restored`; what was clipped stays as it is."""
        if self == IDENTITY:
            return restored
        change: Crop = (restored - self.apply(crop)) / np.float32(self.gain)
        return crop + (self.light.colored(change) if self.light else change)


IDENTITY = ContrastStretch(1.0, 0.0)


def contrast_stretch(crop: Crop) -> ContrastStretch:
    """The stretch that a face's crop [S, S, 3] in 0 to 1 needs: the identity for ordinary contrast in white light."""
    light = colored_light(crop)
    mask, values = face_mask(len(crop)), luma(light.whitened(crop) if light else crop)
    mean = float(np.average(values, weights=mask))
    darkest, lightest = np.percentile(values[mask > 0.5], (_DARKEST, _LIGHTEST))
    contrast = float(lightest - darkest)
    gain = min(_MOST, _ORDINARY / max(contrast, 1e-6))
    if gain <= 1:
        return ContrastStretch(1.0, 0.0, light)
    wanted = mean + min(1.0, (gain - 1) / (_SHIFTED - 1)) * (float(np.clip(mean, *_MEANS)) - mean)
    return ContrastStretch(gain, wanted - gain * mean, light)
