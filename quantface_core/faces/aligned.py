"""Faces that are aligned already, as models are calibrated, trained and judged on: square, 8 bits, one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bit_depth import to_8_bits
from ..errors import ImageError
from ..types import Pixels

if TYPE_CHECKING:
    from torch import Tensor

_SQUARE = 1.1  # the longer side over the shorter, at most


def aligned_face(name: str, pixels: Pixels, size: int) -> NDArray[np.uint8]:
    """A picture that is one aligned face, as [size, size, 3] uint8. Raises ImageError when it is not about square."""
    height, width = pixels.shape[:2]
    if max(height, width) > _SQUARE * min(height, width):
        raise ImageError(f"{name} is {width}x{height}, an aligned face is square")
    smooth = cv2.INTER_AREA if min(height, width) > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(to_8_bits(pixels), (size, size), interpolation=smooth), np.uint8)


def as_batch(faces: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Faces [S, S, 3] as models read them: [N, 3, S, S] float32 in [-1, 1]."""
    import torch

    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float() / 127.5 - 1
