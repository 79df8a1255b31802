"""Which faces of a photo hold a pixel that differs between two pictures of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Face
from .align import compose, face_transform, footprint, invert, resizing, shift, warp
from .paste import face_mask

_SIDE = 256  # pixels of the mask under which a face's pixels are compared


def changed_faces(
    before: NDArray[Any], after: NDArray[Any], faces: Mapping[int, Face], photo: tuple[int, int]
) -> tuple[int, ...]:
    """Numbers of the faces, of a photo [height, width], that are not the same in two pictures [H, W, C] of one size."""
    mask = face_mask(_SIDE)
    (tall, wide), (height, width) = photo, after.shape[:2]
    changed = []
    for number, face in faces.items():
        place = compose(resizing(wide, tall, width, height), invert(face_transform(face, _SIDE)))
        left, top, right, bottom = footprint(place, _SIDE, width, height)
        if left >= right or top >= bottom:
            continue
        here = warp(mask, compose(shift(-left, -top), place), right - left, bottom - top, cv2.BORDER_CONSTANT)
        region = np.s_[top:bottom, left:right]
        if (before[region] != after[region]).any(-1)[here > 0].any():
            changed.append(number)
    return tuple(changed)
