"""Coloured light, such as a stage's, and paint, in which channels are all but black: a face in it is seen in gray.

Restorers know skin in white light. In red light they see nothing that they know, and the contrast of luma is low where
that of red is high already: stretched, it would be clipped. Of skin in blue or green the blend network would take wax
for better.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Crop
from .color import luma
from .paste import face_mask

_SKIN = np.array([1.0, 0.73, 0.63], np.float32)  # mean colour of faces in white light, relative to red
# Weakest channel over the strongest, relative to skin: 0.32 by candles, 0.55 and more in white light.
_COLORED = (0.33, 0.23)
# A channel over the strongest of it and the bluer ones, likewise: 0.72 and more. White light may lack blue, never red.
_COLD = (0.55, 0.42)
_BLACK = 0.02  # of full white, is added to both: the hue of what is nearly black is noise
_GRID, _LOCAL = 32, 2.0  # pixels, side of the grid on which colours are measured, and the sigma of their blur
_BRIGHTEST = 1.5  # of those colours, relative to gray: where another light falls, changes are limited


@dataclass(frozen=True, eq=False)
class ColoredLight:
    """The gray in which a face in coloured light is seen, and the colours that its change gets."""

    share: float  # of gray in what is seen, 0 to 1: the more, the stronger the light's colour
    weights: NDArray[np.float32]  # [3], of the channels in gray
    colors: Crop  # [32, 32, 3], of the light around each place of the crop, relative to gray

    def whitened(self, crop: Crop) -> Crop:
        """A crop [S, S, 3] in 0 to 1 as it would look in white light, as far as that is known."""
        gray = np.clip(crop @ self.weights, 0, 1)[..., None]
        seen: Crop = crop + np.float32(self.share) * (gray - crop)
        return seen

    def colored(self, change: Crop) -> Crop:
        """A change of what is seen, [S, S, 3], as a change of the crop."""
        colors = cv2.resize(self.colors, change.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        own: Crop = change + np.float32(self.share) * (luma(change)[..., None] * colors - change)
        return own


def colored_light(crop: Crop) -> ColoredLight | None:
    """The coloured light on a face in its crop [S, S, 3] in 0 to 1; None in light that is about white."""
    small = cv2.resize(crop, (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    color = np.average(small.reshape(-1, 3), axis=0, weights=face_mask(_GRID).ravel()).astype(np.float32)
    share = coloring(color)
    if not share:
        return None
    weights = color * color.max() / np.square(color).sum()  # of any colours that are multiples of one, the brightest
    around = cv2.GaussianBlur(small, (0, 0), _LOCAL)
    colors = np.minimum(around / np.maximum(around @ weights, 1e-3)[..., None], _BRIGHTEST)
    return ColoredLight(share, weights, colors)


def coloring(color: NDArray[np.float32]) -> float:
    """How coloured the light is in which a face has a mean colour [3] in 0 to 1: 0 = about white, 1 = of one colour."""
    light = color / _SKIN + _BLACK
    weakest, cold = light.min() / light.max(), (light / np.maximum.accumulate(light[::-1])[::-1]).min()
    return max(float(np.interp(x, ends[::-1], (1.0, 0.0))) for x, ends in ((weakest, _COLORED), (cold, _COLD)))
