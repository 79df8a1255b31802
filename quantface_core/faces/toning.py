"""Black and white photos, and toned ones such as sepia: their colour follows from luma, and so does a restored face's.

A restorer sees skin, eyes and teeth, and gives them colours that no such print has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Crop, Plane
from .color import is_gray, luma
from .paste import face_mask

_ROUNDING = 1 / 255  # colour that rounding and compression leave, in shares of full white
_COLOR = 0.06  # largest colour beside the curve, over the luma's deviation; faces in colour have 0.08 and more


@dataclass(frozen=True)
class Toning:
    """The colours of a black and white or toned photo: each channel is a quadratic function of luma."""

    curve: NDArray[np.float32]  # [3 coefficients, from the constant on, 3 channels]

    def colors(self, values: Plane) -> Crop:
        """The colours [S, S, 3] of lumas [S, S] in 0 to 1."""
        colors: Crop = _powers(np.clip(values, 0, 1)) @ self.curve
        return colors

    def tone(self, before: Crop, change: Crop) -> Crop:
        """A change of `before`, both [S, S, 3], with its luma in the photo's colours."""
        values = luma(before)
        return self.colors(values + luma(change)) - self.colors(values)


GRAY = Toning(np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]], np.float32))


def toning_of(crop: Crop) -> Toning | None:
    """How a face's crop [S, S, 3] in 0 to 1 is toned: `GRAY` if it is black and white, None if it is in colour."""
    return GRAY if is_gray(crop) else toning_among(crop[face_mask(len(crop)) > 0])


def toning_among(colors: NDArray[np.float32]) -> Toning | None:
    """How the photo is toned that has these colours [N, 3] in 0 to 1; None if it is in colour."""
    values = luma(colors)
    powers = _powers(values)
    curve, *_ = np.linalg.lstsq(powers, colors, rcond=None)
    left = float(np.square(colors - powers @ curve).mean()) - _ROUNDING**2
    if left > (_COLOR * float(values.std())) ** 2:
        return None
    return Toning(curve.astype(np.float32))


def _powers(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([np.ones_like(values), values, values * values], -1)
