from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.degrade import Degradation, degrade
from tests.stages.psnr import psnr


@pytest.fixture(scope="module")
def faces(test_faces: list[Path]) -> list[np.ndarray]:
    return [np.asarray(Image.open(p).convert("RGB")) for p in test_faces[:16]]


def test_same_seed_same_bytes_and_another_seed_others(faces: list[np.ndarray]) -> None:
    first = degrade(faces[0], 7)
    assert np.array_equal(first, degrade(faces[0], 7))
    assert not np.array_equal(first, degrade(faces[0], 8))


def test_keeps_shape_and_dtype_and_does_not_touch_its_input(faces: list[np.ndarray]) -> None:
    wide = np.ascontiguousarray(faces[0][:100])
    before = wide.copy()
    result = degrade(wide, 3)
    assert result.shape == wide.shape
    assert result.dtype == np.uint8
    assert np.array_equal(wide, before)


def test_is_as_hard_as_the_field_s_test_sets(faces: list[np.ndarray]) -> None:
    quality = [psnr(face, degrade(face, i)) for i, face in enumerate(faces)]
    assert 20.5 < np.mean(quality) < 24
    assert np.ptp(quality) > 3  # from nearly clean to badly damaged


def test_a_gentle_recipe_changes_little(faces: list[np.ndarray]) -> None:
    gentle = Degradation(blur_sigma=(0, 0), downscale=(1, 1), noise_sigma=(0, 0), jpeg_quality=(95, 95), second_order=0)
    assert psnr(faces[0], degrade(faces[0], 0, gentle)) > 36


def test_gray_noise_shares_channels() -> None:
    flat = np.full((64, 64, 3), 128, np.uint8)
    recipe = Degradation((0, 0), 0, (1, 1), (20, 20), gray_noise=1, poisson=0, jpeg_quality=(95, 95), second_order=0)
    noisy = degrade(flat, 1, recipe).astype(float)
    assert noisy.std() > 10
    assert np.ptp(noisy, axis=2).mean() < 3  # JPEG's own rounding
