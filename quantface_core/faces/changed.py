"""Which faces of a photo differ between two versions of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
from numpy.typing import NDArray

from ..types import Face
from .align import compose, face_transform, footprint, invert, resizing, warp_into
from .paste import face_mask

_SIDE = 256  # pixels, side of the face mask in which pixels are compared


def changed_faces(
    before: NDArray[Any], after: NDArray[Any], faces: Mapping[int, Face], photo: tuple[int, int]
) -> tuple[int, ...]:
    """The keys of the faces that differ in any pixel between two images [H, W, C] of the same size.

    Faces are in the coordinates of the photo, whose size (height, width) may differ from that of the images.
    """
    mask = face_mask(_SIDE)
    (tall, wide), (height, width) = photo, after.shape[:2]
    changed = []
    for number, face in faces.items():
        place = compose(resizing(wide, tall, width, height), invert(face_transform(face, _SIDE)))
        area = footprint(place, _SIDE, width, height)
        if area.is_empty:
            continue
        inside = warp_into(area, mask, place, cv2.BORDER_CONSTANT) > 0
        if (before[area.pixels] != after[area.pixels]).any(-1)[inside].any():
            changed.append(number)
    return tuple(changed)
