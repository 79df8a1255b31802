"""Detect the faces of images and select among them: the nodes' inputs and what they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..quantface_core.options import FACE_CHOICES, FACE_ORDERS, RestoreOptions, parse_positions
from . import host
from .boxes import boxes_of_frame
from .host import BoxesSocket, advanced, with_options
from .pictures import as_face_masks, of_frame, to_pixels

if TYPE_CHECKING:
    from ..quantface_core.types import Face

FacesByImage = list[tuple["Face", ...]]  # by image

_BY_POSITION = "positions"  # the choice of faces that uses them
_FACES = (*FACE_CHOICES, _BY_POSITION)
_POSITIONS = "0"  # of a node to which nothing was changed


def selection_inputs(positions: str) -> list[io.Input]:
    """The inputs that select faces; `positions` ends the tooltip of those."""
    return [
        io.Combo.Input("faces", options=list(_FACES), default=RestoreOptions.faces,
                       tooltip="Which faces to use."),
        io.String.Input("positions", default=_POSITIONS, tooltip=f"For faces = positions: {positions}"),
    ]  # fmt: skip


def choice_inputs() -> list[io.Input]:
    """The inputs that select faces, and number them."""
    return [
        *selection_inputs("such as 0,2 or 0-3, from 0 on."),
        advanced(io.Combo.Input("order", options=list(FACE_ORDERS), default=RestoreOptions.order,
                                tooltip="How faces are numbered: from the left, the largest, or the most certain.")),
    ]  # fmt: skip


def limit_inputs() -> list[io.Input]:
    """The inputs that exclude uncertain and small faces."""
    return [
        advanced(io.Float.Input("min_confidence", default=RestoreOptions.min_confidence, min=0.0, max=1.0, step=0.05,
                                tooltip="Ignore faces the detector is less sure of.")),
        advanced(io.Int.Input("min_size", default=0, min=0, max=4096, tooltip="Ignore smaller faces, in pixels.")),
    ]  # fmt: skip


def mark_inputs() -> list[io.Input]:
    """The inputs that replace the detector."""
    boxes = BoxesSocket.Input("boxes", optional=True,
                              tooltip="Instead of the detector: bounding boxes of the faces, or SEGS.")  # fmt: skip
    return [
        io.Mask.Input(
            "face_mask", optional=True, tooltip="Instead of the detector: each separate white area is a face."
        ),
        with_options(boxes, forceInput=True),  # newer hosts would show a widget for drawing boxes by hand
    ]


def check_selection(faces: str | None, positions: str | None) -> bool | str:
    """For `validate_inputs`: True, or an error message; None is a value that another node gives.

    Both values in one check: positions that `faces` does not use must not block a run, as the page hides them then.
    """
    from ..quantface_core.errors import UsageError

    if faces not in (None, *_FACES):
        return f"faces {faces!r:.60}: one of {', '.join(_FACES)}"
    try:
        if faces == _BY_POSITION and positions is not None:
            parse_positions(positions)
    except UsageError as error:
        return str(error)
    return True


def unused_positions(faces: str, positions: str) -> str:
    """A note on positions that `faces` does not use; empty if it uses them, or they are the default."""
    if faces == _BY_POSITION or positions.strip(" ,") in ("", _POSITIONS):
        return ""
    return f"positions {positions:.60} has no effect: faces is {faces}"


def chosen(faces: str, positions: str, order: str, min_confidence: float, min_size: int) -> dict[str, Any]:
    """The values of those inputs, as fields of RestoreOptions. Raises UsageError."""
    host.require_valid(check_selection(faces, positions))
    named = parse_positions(positions) if faces == _BY_POSITION else faces
    return {"faces": named, "order": order, "min_confidence": min_confidence, "min_size": min_size}


def detect_faces(
    image: torch.Tensor,
    face_mask: torch.Tensor | None,
    boxes: Any,
    progress: Callable[[int, int], None],
    notify: Callable[[str], None],
    dark: Sequence[bool] = (),
) -> FacesByImage:
    """Detect the faces of images [N, H, W, 3], except of those that are `dark`.

    `notify` receives a line about boxes outside the image. Raises UsageError, ImageError.
    """
    find = _finder(as_face_masks(face_mask, len(image)), boxes, len(image), notify)
    found: FacesByImage = []
    for index, frame in enumerate(image):
        progress(index, len(image))
        unwanted = index < len(dark) and dark[index]
        found.append(() if unwanted else find(index, frame))
    return found


def _finder(
    face_mask: torch.Tensor | None, boxes: Any, frames: int, notify: Callable[[str], None]
) -> Callable[[int, torch.Tensor], tuple[Face, ...]]:
    """Return the function (index, frame) -> faces: the user's boxes, the user's masks, or the detector."""
    from ..quantface_core import FaceDetector, detector_path
    from ..quantface_core.faces.boxes import boxes_in_mask

    detector = FaceDetector(detector_path(), host.stop_if_cancelled)

    def find(index: int, frame: torch.Tensor) -> tuple[Face, ...]:
        pixels = to_pixels(frame)
        if boxes is None and face_mask is None:
            return detector(pixels)
        height, width = pixels.shape[:2]
        given = [] if boxes is None else boxes_of_frame(boxes, index, frames, (width, height))
        outside = [b for b in given if b[0] >= width or b[1] >= height or b[0] + b[2] <= 0 or b[1] + b[3] <= 0]
        if outside:  # such as a tracker's, once its face has left the frame
            notify(f"image {index}: {len(outside)} of {len(given)} boxes lie outside it")
            given = [box for box in given if box not in outside]
        if face_mask is not None:
            area = of_frame(face_mask, index).cpu()
            whole = torch.nn.functional.interpolate(area[None, None], size=(height, width))[0, 0]
            given += boxes_in_mask(whole.numpy())
        return detector.within(pixels, given)

    return find


def check_choice(found: FacesByImage, options: RestoreOptions, boxes: Any, face_mask: torch.Tensor | None) -> str:
    """A note on a selection that misses some or all faces; empty if it finds what it asks for.

    Raises UsageError when there are faces but positions name none of them in any image.
    """
    from ..quantface_core.errors import UsageError
    from ..quantface_core.faces.select import sort_faces

    given = [name for name, value in (("boxes", boxes), ("face_mask", face_mask)) if value is not None]
    every, most = sum(map(len, found)), max(len(sort_faces(faces, options)) for faces in found)
    if not every and given:
        return f"no face: nothing is marked by {' or '.join(given)}"
    if not every:
        return "no face was found: lower min_confidence, or mark faces with face_mask"
    if not most:
        return f"none of {every} faces reaches both min_confidence and min_size"
    beyond = [p for p in options.faces if isinstance(p, int) and p >= most]
    if not beyond:
        return ""
    listed = ", ".join(map(str, beyond[:5])) + " ..." * (len(beyond) > 5)
    message = f"positions {listed}: there {'is only face 0' if most == 1 else f'are faces 0 to {most - 1}'}"
    if len(beyond) == len(options.faces):
        raise UsageError(message)
    return message
