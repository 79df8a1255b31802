"""Conversion between the bit depths of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert an image or a single channel of any shape, uint8 or uint16, to uint8, rounding to nearest."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 257 = 65535 / 255: exact at both ends
