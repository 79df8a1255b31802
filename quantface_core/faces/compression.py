"""How strongly a photo was compressed as JPEG, measured in its pixels: files forget it when they are saved again.

The cosine coefficients of its blocks lie at multiples of a step for each frequency, by which they were quantized: the
same all over the photo, and whatever it shows.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bit_depth import to_8_bits
from ..types import Pixels

_BLOCK = 8  # pixels
_FEWEST = 4  # blocks along a side
_LARGEST = 512  # pixels, side of the part that is measured
_STEPS = {(0, 1): 11, (1, 0): 12, (1, 1): 12, (0, 2): 10, (2, 0): 14}  # of JPEG's own table at quality 50, by frequency
_COARSEST = 6.0  # times those; about quality 8
_COUNT = 12  # coefficients that are not 0, at least
_CERTAIN = 0.6  # mean cosine of the coefficients' phases within a step: 1 = all are multiples, 0 = by chance
_CONTOUR = 24  # levels of 255: a larger step between pixels is one of the picture's own contours


def quantization(region: Pixels) -> float:
    """How coarsely a part of a photo, [h, w, 3], was quantized: 1 at JPEG's quality 50, 0.5 at 75, 2.5 at 20.

    0 where no compression is found: the photo has none worth mentioning, was resized or damaged since, or the part is
    smaller than four blocks.
    """
    height, width = region.shape[:2]
    top, left = (max(0, (side - _LARGEST) // 2) for side in (height, width))
    part = to_8_bits(region[top : top + _LARGEST, left : left + _LARGEST])
    if min(part.shape[:2]) < (_FEWEST + 1) * _BLOCK:
        return 0.0
    luma = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY).astype(np.float32)
    blocks = _blocks(luma[_first_edge(luma.T) :, _first_edge(luma) :])
    found = [(_step(blocks[..., row, column].ravel(), base), base) for (row, column), base in _STEPS.items()]
    return float(np.median([step / base for step, base in found]))


def _first_edge(luma: NDArray[np.float32]) -> int:
    """The first column at which blocks meet, 0 to 7: where steps between neighbours are largest."""
    # Third differences: slopes and curves have next to none.
    steps = np.abs(luma[:, :-3] - 3 * luma[:, 1:-2] + 3 * luma[:, 2:-1] - luma[:, 3:])
    columns = np.minimum(steps, _CONTOUR).mean(0)
    whole = len(columns) // _BLOCK * _BLOCK
    return (int(columns[:whole].reshape(-1, _BLOCK).mean(0).argmax()) + 2) % _BLOCK


def _blocks(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosine coefficients of all whole blocks, [rows, columns, 8, 8]."""
    rows, columns = (side // _BLOCK for side in luma.shape)
    pixels = luma[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2)
    waves = cv2.dct(np.eye(_BLOCK, dtype=np.float32), flags=cv2.DCT_ROWS).T
    coefficients: NDArray[np.float32] = waves @ pixels @ waves.T
    return coefficients


def _step(coefficients: NDArray[np.float32], base: int) -> int:
    """The largest step of which most coefficients are multiples; 0 = none."""
    largest = 0
    for step in range(2, round(_COARSEST * base) + 1):
        some = coefficients[np.abs(coefficients) > step / 2]
        if len(some) < _COUNT:
            break
        if np.cos(2 * np.pi / step * some).mean() > _CERTAIN:
            largest = step
    return largest
