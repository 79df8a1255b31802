"""Images of 8 and 16 bits per channel: which arrays are photos, and conversion between the depths and to shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ImageError


def check_pixels(pixels: object) -> None:
    """Raise ImageError unless it is a photo: RGB [H, W, 3], uint8 or uint16, not empty."""
    if not isinstance(pixels, np.ndarray):
        kind = type(pixels).__name__
        raise ImageError(f"a photo must be a NumPy array, as read_photo(path).pixels or np.array(image), got {kind}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ImageError(f"a photo must be [height, width, 3] and not empty, got {list(pixels.shape)}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"a photo's pixels must be uint8 or uint16, got {pixels.dtype}")


def to_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert an image or a single channel of any shape, uint8 or uint16, to uint8, rounding to nearest."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 257 = 65535 / 255: exact at both ends


def in_shares(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Pixels, uint8 or uint16, in shares of full white; float ones as they are."""
    if pixels.dtype == np.float32:
        return pixels
    return np.divide(pixels, np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32)
