"""Faces from the output of other programs: bounding boxes, and masks whose white areas are faces."""

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

# The box of an upright face in shares of its FFHQ-aligned crop's side: left, top, width, height. Mean of YuNet's boxes
# over aligned portraits, which vary by 0.04 from face to face.
_BOX_IN_CROP = (0.25, 0.16, 0.50, 0.77)
_FARTHEST = 1e7  # pixels from the image's corner
_SPECK = 8  # pixels; narrower areas of a mask are not faces


def face_in_box(box: Box) -> Face:
    """An upright face that fills a box, with an average face's landmarks and score 1.

    Raises UsageError for a box without area or too far away.
    """
    try:
        left, top, width, height = box
    except (TypeError, ValueError):
        raise UsageError(f"a face's box is left, top, width, height in pixels, got {box!r:.60}") from None
    if not all(abs(value) <= _FARTHEST for value in box) or width <= 0 or height <= 0:
        numbers = ", ".join(f"{value:g}" for value in box)
        raise UsageError(f"a face's box is left, top, width, height in pixels, the last two above 0, got {numbers}")
    # Other detectors' boxes have other proportions: take the size from the area and the place from the centre.
    side = float(np.sqrt(width * height / (_BOX_IN_CROP[2] * _BOX_IN_CROP[3])))
    middle = np.array([left + width / 2, top + height / 2])
    within = np.array([_BOX_IN_CROP[0] + _BOX_IN_CROP[2] / 2, _BOX_IN_CROP[1] + _BOX_IN_CROP[3] / 2])
    points = middle + (FFHQ_TEMPLATE - within) * side
    return Face((left, top, width, height), tuple((float(x), float(y)) for x, y in points), 1.0)


def box_of_landmarks(landmarks: Landmarks) -> Box:
    """The box that the detector would draw around a face with these landmarks. Raises ImageError if they coincide."""
    back = invert(similarity(np.array(landmarks), FFHQ_TEMPLATE))
    left, top, width, height = _BOX_IN_CROP
    x, y = back[:, :2] @ [left + width / 2, top + height / 2] + back[:, 2]
    across, along = np.abs(back[:, :2] @ [1, 0])  # the crop's horizontal direction in the photo
    side = float(np.hypot(across, along))
    wide, tall = (width * side, height * side) if across >= along else (height * side, width * side)
    return (float(x) - wide / 2, float(y) - tall / 2, wide, tall)


def boxes_in_mask(mask: NDArray[Any]) -> list[Box]:
    """The boxes of the connected white areas of a mask [H, W] in 0 to 1, from left to right, without specks."""
    count, _, stats, _ = cv2.connectedComponentsWithStats((mask >= 0.5).astype(np.uint8), connectivity=8)
    boxes = [tuple(float(v) for v in stats[i, :4]) for i in range(1, count)]
    return sorted((b[0], b[1], b[2], b[3]) for b in boxes if min(b[2:]) >= _SPECK)
