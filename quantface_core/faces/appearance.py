"""A face's appearance in a few bytes: enough to tell two people apart who cross in front of a camera.

It is no identity: between scenes, where light and pose change, `recognize` tells more. It needs no model.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Face, Pixels
from .align import extract, face_transform
from .paste import face_mask

Appearance = NDArray[np.uint8]
"""Colours of an aligned face on a coarse grid, [8, 8, 3]."""

AppearanceLike = Appearance | NDArray[np.float64]
"""One appearance, or the mean of many."""

_SIDE, _CELLS = 48, 8
_FLAT = 30.0  # of a centred appearance's length, about 3 of 255 a cell: below it there is nothing to compare
_MASK = cv2.resize(face_mask(_SIDE), (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)[..., None]


def appearance_descriptor(pixels: Pixels, face: Face) -> Appearance:
    """The appearance of a face of a picture [H, W, 3]. Raises ImageError when it lies outside."""
    crop = extract(pixels, face_transform(face, _SIDE), _SIDE)
    return np.rint(cv2.resize(crop, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA) * 255).astype(np.uint8)


def appearance_similarity(a: AppearanceLike, b: AppearanceLike) -> float:
    """Cosine similarity of two centred appearances, whatever the exposure; 1 = the same.

    It is about 0.5 for two people of like colouring. A face in the dark tells nothing: it is like every other.
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
