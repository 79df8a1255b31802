"""Aligned faces are the same pixels for whoever reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quantface_core.errors import ImageError
from quantface_core.faces.aligned import aligned_face, as_batch, to_8_bits


def test_sixteen_bits_round_to_the_nearest_of_eight() -> None:
    every = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_8_bits(every), np.rint(every / 257).astype(np.uint8))
    eight = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_8_bits(eight), eight)


@pytest.mark.parametrize("side", [20, 64, 100])
def test_a_face_of_either_depth_takes_the_size(side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    face = aligned_face("x", pixels, 64)
    assert face.shape == (64, 64, 3)
    assert np.array_equal(face, aligned_face("x", pixels.astype(np.uint16) * 257, 64))
    if side == 64:
        assert np.array_equal(face, pixels)


def test_what_is_not_square_is_named() -> None:
    with pytest.raises(ImageError, match=r"wide\.png is 80x64"):
        aligned_face("wide.png", np.zeros((64, 80, 3), np.uint8), 64)


def test_a_batch_is_from_minus_one_to_one() -> None:
    batch = as_batch([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)])
    assert batch.shape == (2, 3, 4, 4)
    assert batch.dtype == torch.float32
    assert (float(batch.min()), float(batch.max())) == (-1.0, 1.0)
    assert batch.is_contiguous(memory_format=torch.channels_last)
