"""The cleaning network: any size of image, the same whatever torch's default dtype is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quantface_core.faces.clean_network import BUNDLED, STRIDE, load_cleaner, without_artifacts


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 9, 3), (64, 40, 3), (65, 31, 3)])
def test_an_image_keeps_its_size(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    made = without_artifacts(image)
    assert made.shape == shape
    assert made.dtype == np.float32
    assert np.isfinite(made).all()


def test_what_moves_by_its_stride_moves_along() -> None:
    image = np.random.default_rng(0).random((160, 160, 3), np.float32)
    whole, moved = without_artifacts(image), without_artifacts(image[STRIDE:, 2 * STRIDE :])
    inner = np.s_[72:80, 72:80]
    np.testing.assert_allclose(moved[inner], whole[STRIDE:, 2 * STRIDE :][inner], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_does_not_depend_on_the_default_dtype(dtype: torch.dtype) -> None:
    image = np.random.default_rng(0).random((32, 32, 3), np.float32)
    expected = without_artifacts(image)
    try:
        torch.set_default_dtype(dtype)
        assert np.array_equal(without_artifacts(image, load_cleaner(BUNDLED)), expected)
    finally:
        torch.set_default_dtype(torch.float32)
