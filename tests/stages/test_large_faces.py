"""Faces larger than the restorer's crop: their detail stays, their noise and blocks go."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.io.photos import read_photo
from quantface_core.options import RestoreOptions
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.outcome import is_unchanged
from quantface_core.stages.restore import restore_aligned
from tests.stages.psnr import psnr
from tests.stages.toy_restorers import Waxy


def test_of_a_sharp_face_larger_than_the_crop_all_detail_stays(train_faces: Path, mini: OneStepRestorer) -> None:
    path = sorted((train_faces.parent / "large").glob("*.jpg"))[0]
    photo = cv2.resize(read_photo(path).pixels, (1024, 1024), interpolation=cv2.INTER_LANCZOS4)
    before, after = (finest(x)[200:800, 200:800].std() for x in (photo, restore_aligned(photo, mini).pixels))
    assert after > 0.9 * before


@pytest.mark.parametrize("sigma", [12, 25])
def test_a_face_larger_than_the_crop_loses_its_noise(train_faces: Path, mini: OneStepRestorer, sigma: int) -> None:
    path = sorted((train_faces.parent / "large").glob("*.jpg"))[0]
    clean = cv2.resize(read_photo(path).pixels, (1024, 1024), interpolation=cv2.INTER_LANCZOS4)
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    noisy = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    result = restore_aligned(noisy, mini)
    assert psnr(result.pixels, clean) > psnr(noisy, clean) + 5
    (face,) = result.restored
    assert face.removed_artifacts == "noise"
    assert not is_unchanged(face.applied_strength, face.removed_artifacts)


def test_noise_finer_than_the_crop_goes_in_proportion_to_the_strength(train_faces: Path) -> None:
    path = sorted((train_faces.parent / "large").glob("*.jpg"))[0]
    clean = cv2.resize(read_photo(path).pixels, (1024, 1024), interpolation=cv2.INTER_LANCZOS4)
    noisy = np.clip(np.rint(clean + np.random.default_rng(0).normal(0, 12, clean.shape)), 0, 255).astype(np.uint8)
    none, half, whole = (
        restore_aligned(noisy, Waxy(), RestoreOptions(strength=strength, grain=0.0)).pixels
        for strength in (0.0, 0.5, 1.0)
    )
    assert np.array_equal(none, noisy)
    before, after = ((finest(x) - finest(clean))[200:800, 200:800].std() for x in (noisy, whole))
    assert after < 0.4 * before
    apart = np.abs(half - (none.astype(float) + whole) / 2)
    assert apart[(whole > 0) & (whole < 255)].max() <= 1.5  # rounded once more than either


def test_at_full_strength_true_detail_finer_than_the_crop_stays(train_faces: Path) -> None:
    path = sorted((train_faces.parent / "large").glob("*.jpg"))[0]
    photo = cv2.resize(read_photo(path).pixels, (1024, 1024), interpolation=cv2.INTER_LANCZOS4)
    result = restore_aligned(photo, Waxy(), RestoreOptions(strength=1.0))
    before, after = (finest(x)[200:800, 200:800].std() for x in (photo, result.pixels))
    assert after > 0.85 * before
    assert not result.restored[0].removed_artifacts


def test_a_face_of_blocks_keeps_no_finer_grid(train_faces: Path, mini: OneStepRestorer) -> None:
    path = sorted((train_faces.parent / "large").glob("*.jpg"))[0]
    clean = cv2.resize(read_photo(path).pixels, (1024, 1024), interpolation=cv2.INTER_LANCZOS4)
    blocks = cv2.resize(
        cv2.resize(clean, (128, 128), interpolation=cv2.INTER_AREA), (1024, 1024), interpolation=cv2.INTER_NEAREST
    )
    result = restore_aligned(blocks, mini)
    assert psnr(result.pixels, clean) > psnr(blocks, clean) + 0.5
    before, after = (finest(x)[200:800, 200:800].std() for x in (blocks, result.pixels))
    assert after < 0.6 * before


def finest(pixels: np.ndarray) -> np.ndarray:
    """What lies beyond the restorer's 256 pixels."""
    x = pixels.astype(np.float32)
    return x - cv2.resize(cv2.resize(x, (256, 256), interpolation=cv2.INTER_AREA), (1024, 1024))
