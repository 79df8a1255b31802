"""Faces from what other programs give: bounding boxes, and masks whose white areas are faces."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..types import Face
from .align import FFHQ_TEMPLATE, Landmarks, invert, similarity

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""

# The box of an upright face in shares of its FFHQ-aligned crop's side: left, top, width, height. Mean of
# YuNet's boxes over portraits of ../shared/faces/large, which differ by 0.04 from face to face.
_BOX_IN_CROP = (0.25, 0.16, 0.50, 0.77)
_FARTHEST = 1e7  # pixels from a picture's corner
_SPECK = 8  # pixels; an area of a mask that is narrower is no face


def face_in_box(box: Box) -> Face:
    """An upright face that fills a box, landmarks where an average face has them. Raises UsageError."""
    left, top, width, height = box
    if not all(abs(value) <= _FARTHEST for value in box) or width <= 0 or height <= 0:
        numbers = ", ".join(f"{value:g}" for value in box)
        raise UsageError(f"a face's box is left, top, and a width and height above 0, in pixels, got {numbers}")
    # Other detectors' boxes have other shapes: their area tells the size, their middle the place.
    side = float(np.sqrt(width * height / (_BOX_IN_CROP[2] * _BOX_IN_CROP[3])))
    middle = np.array([left + width / 2, top + height / 2])
    within = np.array([_BOX_IN_CROP[0] + _BOX_IN_CROP[2] / 2, _BOX_IN_CROP[1] + _BOX_IN_CROP[3] / 2])
    points = middle + (FFHQ_TEMPLATE - within) * side
    return Face((left, top, width, height), tuple((float(x), float(y)) for x, y in points), 1.0)


def box_of_landmarks(landmarks: Landmarks) -> Box:
    """The box that a face with these landmarks fills, as a detector draws it. Raises ImageError."""
    back = invert(similarity(np.array(landmarks), FFHQ_TEMPLATE))
    left, top, width, height = _BOX_IN_CROP
    x, y = back[:, :2] @ [left + width / 2, top + height / 2] + back[:, 2]
    across, along = np.abs(back[:, :2] @ [1, 0])  # the crop's horizontal in the photo
    side = float(np.hypot(across, along))
    wide, tall = (width * side, height * side) if across >= along else (height * side, width * side)
    return (float(x) - wide / 2, float(y) - tall / 2, wide, tall)


def boxes_in_mask(mask: NDArray[Any]) -> list[Box]:
    """The boxes of a mask's separate white areas ([H, W] in 0 to 1), from the left; specks are left out."""
    count, _, stats, _ = cv2.connectedComponentsWithStats((mask >= 0.5).astype(np.uint8), connectivity=8)
    boxes = [tuple(float(v) for v in stats[i, :4]) for i in range(1, count)]
    return sorted((b[0], b[1], b[2], b[3]) for b in boxes if min(b[2:]) >= _SPECK)
