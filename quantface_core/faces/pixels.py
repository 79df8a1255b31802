"""Which arrays are photos: a check with the words that help, where OpenCV's would not."""

from __future__ import annotations

import numpy as np

from ..errors import ImageError


def check_pixels(pixels: object) -> None:
    """Raise ImageError unless it is a photo: RGB [H, W, 3], uint8 or uint16, not empty."""
    if not isinstance(pixels, np.ndarray):
        kind = type(pixels).__name__
        raise ImageError(f"a photo must be a NumPy array, as read_photo(path).pixels or np.array(image), got {kind}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ImageError(f"a photo must be [height, width, 3] and not empty, got {list(pixels.shape)}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"a photo's pixels must be uint8 or uint16, got {pixels.dtype}")
