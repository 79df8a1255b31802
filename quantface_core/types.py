"""The plain frozen values that stages hand each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""RGB picture [H, W, 3]; the dtype's full range is black to white."""


@dataclass(frozen=True)
class Face:
    """One detected face, in the photo's pixel coordinates (a pixel's centre is at whole numbers)."""

    box: tuple[float, float, float, float]  # left, top, width, height in pixels; may reach past the border
    landmarks: tuple[tuple[float, float], ...]  # x, y in pixels: the picture's left eye, right eye, nose,
    # left mouth corner, right mouth corner
    score: float  # the detector's confidence, 0 to 1; 1 when the face was given by hand

    @property
    def size(self) -> float:
        """Side of the square with the box's area, in pixels."""
        return float(np.sqrt(max(self.box[2], 0.0) * max(self.box[3], 0.0)))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, rounded to hundredths of a pixel."""
        return {
            "box": [round(v, 2) for v in self.box],
            "landmarks": [[round(v, 2) for v in point] for point in self.landmarks],
            "score": round(self.score, 4),
        }


@dataclass(frozen=True)
class RestoreOptions:
    """How a photo's faces are chosen, restored and put back."""

    faces: str | tuple[int, ...] = "all"  # "all", "largest", or positions in the stable order, from 0
    order: str = "left-to-right"  # or "size" (largest first): what positions count
    min_size: float = 0.0  # pixels, side of the face's box; 0 = any size
    min_confidence: float = 0.7  # 0 to 1; below it the detector's faces are ignored
    strength: float = 1.0  # 0 = the photo as it was, 1 = fully restored
    color: str = "wavelet"  # "none", "adain" (mean and spread) or "wavelet" (all low frequencies) of the photo
    upscale: int = 1  # 1, 2 or 4 times the photo's size
    batch_size: int = 4  # faces restored at once; memory grows with it, the picture does not depend on it
    seed: int | None = None  # None = the latent's mode; a number = a latent sampled with that seed


@dataclass(frozen=True)
class Restoration:
    """What restoring one photo gave."""

    pixels: Pixels  # [H * upscale, W * upscale, 3], the photo's dtype
    mask: NDArray[np.float32]  # [H * upscale, W * upscale] in 0 to 1; 0 = not touched by a face
    faces: tuple[Face, ...]  # every face found or given, in the stable order
    restored: tuple[int, ...]  # positions in `faces` that were restored
    crops: tuple[NDArray[np.float32], ...] = field(repr=False)  # as the restorer saw them: [S, S, 3] in 0 to 1
    restored_crops: tuple[NDArray[np.float32], ...] = field(repr=False)  # as pasted, colour-matched
