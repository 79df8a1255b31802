"""The cleaning network: any size of image, refused where its file is damaged, the same whatever torch's defaults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from quantface_core.errors import ModelError
from quantface_core.faces.clean_network import BUNDLED, STRIDE, CleanNetwork, load_cleaner, without_artifacts


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


def test_a_damaged_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(BUNDLED.read_bytes()[:1000])
    save_file({name: torch.zeros(1) for name in CleanNetwork().state_dict()}, tmp_path / "other.safetensors")
    for name in ("cut", "other", "missing"):
        with pytest.raises(ModelError, match=f"{name}.safetensors.*reinstall"):
            load_cleaner(tmp_path / f"{name}.safetensors")


def test_the_bundled_network_is_small() -> None:
    assert BUNDLED.stat().st_size < 1_500_000


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_does_not_depend_on_the_default_dtype(dtype: torch.dtype) -> None:
    image = np.random.default_rng(0).random((32, 32, 3), np.float32)
    expected = without_artifacts(image)
    try:
        torch.set_default_dtype(dtype)
        assert np.array_equal(without_artifacts(image, load_cleaner(BUNDLED)), expected)
    finally:
        torch.set_default_dtype(torch.float32)
