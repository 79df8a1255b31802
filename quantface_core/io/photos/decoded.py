"""What Pillow decoded, in any of its modes, as a photo."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import ImageError
from .color import as_rgb, fitting_profile
from .photo import Photo
from .tiff_read import from_floats


def as_photo(image: Image.Image) -> Photo:
    """Pixels, alpha and profile of an open image, not turned: 8-bit gray or RGB, or 16-bit gray. Raises ImageError."""
    icc = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        values, notes = _wide_gray(image)
        icc, more = fitting_profile(icc, True)
        return Photo(np.repeat(values[..., None], 3, axis=2), gray=True, icc=icc, notes=(*notes, *more))
    image, icc, notes = as_rgb(image, icc)
    values = np.asarray(image)
    gray, alpha = image.mode in ("L", "LA"), None
    if image.mode in ("LA", "RGBA"):
        alpha = np.ascontiguousarray(values[..., -1])
        values = values[..., :-1]
    if gray:
        values = np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2)
    return Photo(np.ascontiguousarray(values), alpha, gray, icc, notes=notes)


def _wide_gray(image: Image.Image) -> tuple[NDArray[Any], tuple[str, ...]]:
    """One channel of more than 8 bits, as [H, W] uint16, and notes. Raises ImageError."""
    values = np.asarray(image)
    if image.mode == "F":
        return from_floats(values)
    if int(values.min()) < 0 or int(values.max()) > 0xFFFF:
        raise ImageError("its values do not fit 16 bits, and it does not say which is white: convert it first")
    return values.astype(np.uint16), ()
