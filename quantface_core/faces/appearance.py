"""A face's appearance in a few bytes: enough to tell apart two people who cross in front of a camera.

It is not an identity embedding: across scenes, where light and pose change, use `recognize`. It needs no model.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Face, Pixels
from .align import extract, face_transform
from .paste import face_mask

Appearance = NDArray[np.uint8]
"""Mean colours of an aligned face on a coarse grid, [8, 8, 3]."""

AppearanceLike = Appearance | NDArray[np.float64]
"""One appearance, or a mean of several."""

_SIDE, _CELLS = 48, 8
_FLAT = 30.0  # norm of a centred appearance, about 3 of 255 per cell, below which there is nothing to compare
_MASK = cv2.resize(face_mask(_SIDE), (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)[..., None]


def appearance_descriptor(pixels: Pixels, face: Face) -> Appearance:
    """The appearance of a face in an image [H, W, 3]. Raises ImageError when it lies outside or cannot be aligned."""
    crop = extract(pixels, face_transform(face, _SIDE), _SIDE)
    return np.rint(cv2.resize(crop, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA) * 255).astype(np.uint8)


def appearance_similarity(a: AppearanceLike, b: AppearanceLike) -> float:
    """Cosine similarity of two centred appearances, invariant to exposure; 1 = the same.

    It is about 0.5 for two people of similar colouring. A face without contrast, as in the dark, cannot be compared:
    its similarity to every other is 1.
    """
    first, second = _centred(a), _centred(b)
    lengths = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if min(lengths) < _FLAT:
        return 1.0
    return float((first * second).sum() / (lengths[0] * lengths[1]))


def _centred(appearance: AppearanceLike) -> NDArray[np.float64]:
    values = np.asarray(appearance, np.float64)
    mean = (values * _MASK).sum() / (values.shape[2] * float(_MASK.sum()))
    centred: NDArray[np.float64] = (values - mean) * np.sqrt(_MASK)
    return centred
