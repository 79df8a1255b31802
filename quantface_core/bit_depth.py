"""Between the depths of pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """A picture or one channel, uint8 or uint16, at 8 bits, rounded."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 257 = 65535 / 255: exact at both ends
