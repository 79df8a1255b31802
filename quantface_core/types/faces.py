"""Photos, their faces, and what restoring them returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""RGB image [H, W, 3]; 0 is black, the dtype's maximum white."""

Crop = NDArray[np.float32]
"""Aligned RGB crop of a face, [S, S, 3]; 0 is black, 1 white."""

Plane = NDArray[np.float32]
"""One value per pixel, [H, W]: a mask or a share, from 0 to 1."""


@dataclass(frozen=True)
class Face:
    """One detected face, in the photo's pixel coordinates (pixel centres lie at integers)."""

    box: tuple[float, float, float, float]  # left, top, width, height in pixels; may extend past the border
    landmarks: tuple[tuple[float, float], ...]  # x, y in pixels, left and right as seen in the image: left eye,
    # right eye, nose, left mouth corner, right mouth corner
    score: float  # the detector's confidence, 0 to 1; 1 for a face given by hand

    @property
    def size(self) -> float:
        """Side length, in pixels, of the square that has the box's area."""
        return float(np.sqrt(max(self.box[2], 0.0) * max(self.box[3], 0.0)))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; coordinates are rounded to hundredths of a pixel, the score to four decimals."""
        return {
            "box": [round(v, 2) for v in self.box],
            "landmarks": [[round(v, 2) for v in point] for point in self.landmarks],
            "score": round(self.score, 4),
        }


@dataclass(frozen=True, eq=False)
class RestoredFace:
    """One face of a photo that was restored, though not necessarily changed.

    Where crops were not to be kept, they are empty, [0, 0, 3].
    """

    position: int  # in `Restoration.faces`
    crop: Crop = field(repr=False)  # cut out of the photo, as it is
    restored_crop: Crop = field(repr=False)  # the restorer's output, colour-matched, before blending
    applied_strength: float  # mean share of the change that was applied: 0 = none of it, 1 = all
    removed_artifacts: str = ""  # beside that change: "noise", "compression", "blocks" or "" for none


@dataclass(frozen=True, eq=False)
class Restoration:
    """The result of restoring one photo."""

    pixels: Pixels  # [H * upscale, W * upscale, 3] or as the background given, in the photo's dtype
    mask: Plane  # [H, W] of `pixels`; 0 = unchanged by any face
    faces: tuple[Face, ...]  # the faces that pass the options, in their order
    restored: tuple[RestoredFace, ...]  # those chosen and in view, in the order of their positions


@dataclass(frozen=True, eq=False)
class Repair:
    """A photo without its scratches."""

    pixels: Pixels  # [H, W, 3] in the photo's dtype; exactly the photo's where the mask is 0
    mask: Plane  # [H, W] in 0 to 1: the opacity of what was inpainted

    @property
    def share(self) -> float:
        """The share of the photo that was inpainted, 0 to 1; 0 = no scratches were found."""
        return float(self.mask.mean(dtype="float64"))
