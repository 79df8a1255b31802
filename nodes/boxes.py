"""Face boxes as other nodes give and take them: the host's BOUNDING_BOX, and Impact Pack's SEGS."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .pictures import check_count

if TYPE_CHECKING:
    from ..quantface_core.types import Face

Corners = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom lie outside."""

_LABEL = "face"
_AROUND = 3.0  # sides of a segment's region over its box's: what a detailer sees around the face


class Segment(NamedTuple):
    """One of SEGS, with the fields that Impact Pack's nodes read."""

    cropped_image: None  # its nodes cut it out of their own image
    cropped_mask: NDArray[np.float32]  # [height, width] of the region: 1 in the box
    confidence: float
    crop_region: Corners
    bbox: Corners
    label: str
    control_net_wrapper: None = None


def bounding_boxes(faces: Sequence[Face], width: int, height: int) -> list[dict[str, Any]]:
    """The faces of an image of this size as the host's boxes, in order, within the image."""
    listed = []
    for face in faces:
        left, top, right, bottom = _corners(face, width, height)
        place = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        listed.append({**place, "label": _LABEL, "score": face.score})
    return listed


def segments(faces: Sequence[Face], width: int, height: int) -> tuple[tuple[int, int], list[Segment]]:
    """The faces of an image of this size as SEGS, in order."""
    listed = []
    for face in faces:
        left, top, right, bottom = box = _corners(face, width, height)
        x, wide = _region(left, right, width)
        y, tall = _region(top, bottom, height)
        mask = np.zeros((tall, wide), np.float32)
        mask[top - y : bottom - y, left - x : right - x] = 1
        listed.append(Segment(None, mask, face.score, (x, y, x + wide, y + tall), box, _LABEL))
    return (height, width), listed


def _corners(face: Face, width: int, height: int) -> Corners:
    """A face's box in whole pixels within the image, at least one wide and high."""
    x, y, wide, tall = face.box
    left, top = (min(max(0, math.floor(v)), side - 1) for v, side in ((x, width), (y, height)))
    right, bottom = (min(math.ceil(v), side) for v, side in ((x + wide, width), (y + tall, height)))
    return left, top, max(left + 1, right), max(top + 1, bottom)


def _region(start: int, end: int, limit: int) -> tuple[int, int]:
    """The region around one side of a box, moved into the image: (start, length)."""
    length = min(limit, round(_AROUND * (end - start)))
    return min(max(0, (start + end - length) // 2), limit - length), length


def boxes_of_frame(
    boxes: Any, index: int, frames: int, size: tuple[int, int]
) -> list[tuple[float, float, float, float]]:
    """The host's boxes (one, a list for all frames, or a list of lists by frame) or Impact Pack's SEGS for one frame
    of a size [width, height] -> left, top, width, height of each. Raises UsageError.
    """
    from ..quantface_core.errors import UsageError

    if _are_segs(boxes):
        return _boxes_of_segs(boxes, size)
    if isinstance(boxes, Mapping):
        boxes = [boxes]
    if isinstance(boxes, Sequence) and any(isinstance(entry, list | tuple) for entry in boxes):
        check_count("boxes", len(boxes), frames)
        boxes = boxes[min(index, len(boxes) - 1)]
    try:
        return [(float(b["x"]), float(b["y"]), float(b["width"]), float(b["height"])) for b in boxes]
    except (TypeError, KeyError, ValueError) as error:
        wanted = "give x, y, width and height of each face, as BOUNDING_BOX outputs do, or SEGS"
        raise UsageError(f"boxes: {wanted}") from error


def _are_segs(boxes: Any) -> bool:
    """Whether these are SEGS: ((height, width) of their image, segments with a `bbox`)."""
    if not (isinstance(boxes, list | tuple) and len(boxes) == 2 and isinstance(boxes[1], list | tuple)):
        return False
    shape = boxes[0]
    measured = isinstance(shape, list | tuple) and len(shape) == 2 and all(isinstance(side, int) for side in shape)
    return measured and all(hasattr(segment, "bbox") for segment in boxes[1])


def _boxes_of_segs(segs: Any, size: tuple[int, int]) -> list[tuple[float, float, float, float]]:
    """The segments' boxes as left, top, width, height, scaled to this image, which may have been enlarged since."""
    (tall, wide), segments = segs
    x, y = size[0] / max(wide, 1), size[1] / max(tall, 1)
    corners = [[float(side) for side in segment.bbox] for segment in segments]
    return [(left * x, top * y, (right - left) * x, (bottom - top) * y) for left, top, right, bottom in corners]
