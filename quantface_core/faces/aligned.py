"""Aligned face crops, on which models are calibrated, trained and evaluated: square, 8-bit, all of one size."""

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

_SQUARE = 1.1  # longest side over shortest, at most


def is_about_square(width: int, height: int) -> bool:
    """Whether an image of this size can be one aligned face."""
    return max(height, width) <= _SQUARE * min(height, width)


def aligned_face(name: str, pixels: Pixels, size: int) -> NDArray[np.uint8]:
    """Resize an image [H, W, 3] that is one aligned face to [size, size, 3] uint8.

    Raises ImageError, naming it `name`, when it is not about square.
    """
    height, width = pixels.shape[:2]
    if not is_about_square(width, height):
        raise ImageError(f"{name} is {width}x{height}, but an aligned face is square: crop the face first")
    smooth = cv2.INTER_AREA if min(height, width) > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(to_8_bits(pixels), (size, size), interpolation=smooth), np.uint8)


def as_batch(faces: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Faces [S, S, 3] uint8 -> a model's input, [N, 3, S, S] float32 in [-1, 1]."""
    import torch

    shape = (len(faces), 3, *faces[0].shape[:2])
    batch = torch.empty(shape, device="cpu", memory_format=torch.channels_last)
    for place, face in zip(batch, faces, strict=True):  # one by one: a batch for training takes gigabytes
        place.copy_(torch.from_numpy(face).permute(2, 0, 1))
    return batch.div_(127.5).sub_(1)
