"""A small picture that was enlarged by repeating its pixels, enlarged smoothly instead."""

from __future__ import annotations

import cv2
import numpy as np

from ..types import Pixels

_MOST, _LEAST_BLOCKS = 16, 6  # the largest factor looked for; how many blocks must show it
_LINES = 256  # about as many of a region's rows and columns are looked at
# Of the steps at the blocks' edges: steps within blocks are smaller, also after compression. Heavy compression leaves
# such blocks of its own, of so many pixels: for these, less.
_STEPS, _JPEG, _JPEG_STEPS = 0.35, 8, 0.1


def smoothly_enlarged(region: Pixels) -> Pixels | None:
    """A region [h, w, 3] of a picture whose pixels were repeated, enlarged by cubic interpolation from those pixels.

    None if its pixels were not repeated a whole number of times, the same in both directions.
    """
    height, width = region.shape[:2]
    factor, left = _blocks(region[:: 1 + height // _LINES])
    other, top = _blocks(region[:, :: 1 + width // _LINES].swapaxes(0, 1))
    if factor == 1 or other != factor:
        return None
    before = (-top % factor, -left % factor)
    after = (-(height + before[0]) % factor, -(width + before[1]) % factor)
    # Blocks that the region's border cuts are completed: a block has one value.
    whole = cv2.copyMakeBorder(region, before[0], after[0], before[1], after[1], cv2.BORDER_REPLICATE)
    small = cv2.resize(whole, (whole.shape[1] // factor, whole.shape[0] // factor), interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(small, whole.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(smooth[before[0] : before[0] + height, before[1] : before[1] + width])


def _blocks(lines: Pixels) -> tuple[int, int]:
    """(how often the pixels of lines [n, w, 3] are repeated, where the first whole block starts); (1, 0) if not."""
    gray = cv2.cvtColor(np.ascontiguousarray(lines), cv2.COLOR_RGB2GRAY).astype(np.float32)
    steps = np.abs(np.diff(gray, axis=1)).mean(0)
    for factor in range(min(_MOST, len(steps) // _LEAST_BLOCKS), 1, -1):
        means = np.array([steps[start::factor].mean() for start in range(factor)])
        edge = int(means.argmax())
        if np.delete(means, edge).max() < means[edge] * (_STEPS if factor % _JPEG else _JPEG_STEPS):
            return factor, (edge + 1) % factor
    return 1, 0
