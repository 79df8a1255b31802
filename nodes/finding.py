"""Which faces a picture has: the detector's, or those that boxes and masks from other nodes name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from . import host
from .pictures import boxes_of_frame, of_frame, to_pixels

if TYPE_CHECKING:
    from ..quantface_core.types import Face, RestoreOptions

Found = list[tuple["Face", ...]]  # by picture


def find_faces(
    image: torch.Tensor,
    face_mask: torch.Tensor | None,
    boxes: Any,
    progress: Callable[[int, int], None],
    tell: Callable[[str], None],
    dark: Sequence[bool] = (),
) -> Found:
    """The faces of pictures [N, H, W, 3]; none is looked for where `dark` says that none is wanted.

    `tell` hears of boxes that lie outside. Raises UsageError, ImageError.
    """
    find = _finder(face_mask, boxes, len(image), tell)
    found: Found = []
    for index, frame in enumerate(image):
        progress(index, len(image))
        unwanted = index < len(dark) and dark[index]
        found.append(() if unwanted else host.cancellable_call(partial(find, index, frame)))
    return found


def _finder(
    face_mask: torch.Tensor | None, boxes: Any, frames: int, tell: Callable[[str], None]
) -> Callable[[int, torch.Tensor], tuple[Face, ...]]:
    """What finds the faces of a picture (index, frame): the user's boxes, the user's mask, or the detector."""
    from ..quantface_core import FaceDetector, detector_path
    from ..quantface_core.faces.boxes import boxes_in_mask

    detector = FaceDetector(detector_path())

    def find(index: int, frame: torch.Tensor) -> tuple[Face, ...]:
        pixels = to_pixels(frame)
        if boxes is None and face_mask is None:
            return detector(pixels)
        height, width = pixels.shape[:2]
        given = [] if boxes is None else boxes_of_frame(boxes, index, frames)
        outside = [b for b in given if b[0] >= width or b[1] >= height or b[0] + b[2] <= 0 or b[1] + b[3] <= 0]
        if outside:  # as a tracker's are, whose face has left the picture
            tell(f"picture {index}: {len(outside)} of {len(given)} boxes lie outside of it")
            given = [box for box in given if box not in outside]
        if face_mask is not None:
            area = of_frame(face_mask, index).cpu()
            whole = torch.nn.functional.interpolate(area[None, None], size=(height, width))[0, 0]
            given += boxes_in_mask(whole.numpy())
        return detector.within(pixels, given)

    return find


def check_choice(found: Found, options: RestoreOptions, given: Sequence[str]) -> str:
    """What to tell of a choice of faces that misses some or all; empty where it finds what it asks for.

    `given` names the inputs that took the detector's place. Raises UsageError when there are faces, and positions
    name none of them in any picture.
    """
    from ..quantface_core.errors import UsageError
    from ..quantface_core.faces.select import sort_faces

    every, most = sum(map(len, found)), max(len(sort_faces(faces, options)) for faces in found)
    if not every and given:
        return f"no face: nothing is marked by {' and '.join(given)}"
    if not every:
        return "no face was found: lower min_confidence, or mark faces with face_mask"
    if not most:
        return f"none of {every} faces is as sure as min_confidence and as large as min_size"
    beyond = [p for p in options.faces if isinstance(p, int) and p >= most]
    if not beyond:
        return ""
    listed = ", ".join(map(str, beyond[:5])) + " ..." * (len(beyond) > 5)
    message = f"positions {listed}: there {'is face 0 only' if most == 1 else f'are faces 0 to {most - 1}'}"
    if len(beyond) == len(options.faces):
        raise UsageError(message)
    return message
