from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from quantface_core.degrade import degrade
from quantface_core.faces.blend import BUNDLED, blend_share, kept_detail, load_blend
from quantface_core.io.photos import read_photo


def unit(path: Path) -> np.ndarray:
    return read_photo(path).pixels.astype(np.float32) / 255


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a - b).mean())


def blended(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return before + blend_share(before, after)[..., None] * (after - before)


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_a_sharp_face_is_not_smoothed(test_faces: list[Path], sigma: float) -> None:
    for path in test_faces[:6]:
        face = unit(path)
        smooth = cv2.GaussianBlur(face, (0, 0), sigma)
        assert error(blended(face, smooth), face) < 0.05 * error(smooth, face)


def test_what_helps_is_taken(test_faces: list[Path]) -> None:
    """A restorer that gives the original, a little soft, of damaged faces: most of what it can do is done."""
    done, possible = [], []
    for seed, path in enumerate(test_faces[:6]):
        face = unit(path)
        bad = degrade((face * 255).astype(np.uint8), seed).astype(np.float32) / 255
        after = cv2.GaussianBlur(face, (0, 0), 2)
        done.append(1 - error(blended(bad, after), face) / error(bad, face))
        possible.append(1 - error(after, face) / error(bad, face))
    assert np.mean(done) > 0.7 * np.mean(possible)


def test_nonsense_is_not_taken(test_faces: list[Path]) -> None:
    rng = np.random.default_rng(0)
    for path, other in zip(test_faces[:4], test_faces[4:8], strict=True):
        face = unit(path)
        for nonsense in (unit(other), rng.random(face.shape, np.float32), np.full_like(face, 0.5)):
            assert blend_share(face, nonsense).mean() < 0.05


def test_any_size_has_a_share_a_pixel(test_faces: list[Path]) -> None:
    small = unit(test_faces[0])
    for side in (64, 512):
        face = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        share = blend_share(face, cv2.GaussianBlur(face, (0, 0), 2))
        assert share.shape == (side, side)
        assert 0 <= share.min() <= share.max() <= 1


def test_finer_detail_stays_where_the_crop_kept_its_own(test_faces: list[Path]) -> None:
    face = unit(test_faces[0])
    assert np.allclose(kept_detail(face, face), 1)
    noisy = face + np.random.default_rng(0).normal(0, 0.08, face.shape).astype(np.float32)
    half = face.copy()
    half[:, 128:] = noisy[:, 128:]
    kept = kept_detail(half, face)  # the left half was clean, the right half was denoised
    assert kept[:, :112].min() > 0.99
    assert kept[:, 144:].mean() < 0.35


def test_a_face_that_is_left_as_it_was_keeps_its_finer_detail(test_faces: list[Path]) -> None:
    face = unit(test_faces[0])
    smooth = cv2.GaussianBlur(face, (0, 0), 2)
    share = blend_share(face, smooth)
    keep = kept_detail(face, face + share[..., None] * (smooth - face))
    assert keep[cv2.blur(share, (17, 17)) == 0].min() > 0.99


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_does_not_depend_on_the_default_dtype(test_faces: list[Path], dtype: torch.dtype) -> None:
    face = unit(test_faces[0])
    smooth = cv2.GaussianBlur(face, (0, 0), 2)
    expected = blend_share(face, smooth, load_blend(BUNDLED))
    try:
        torch.set_default_dtype(dtype)
        assert np.array_equal(blend_share(face, smooth, load_blend(BUNDLED)), expected)
    finally:
        torch.set_default_dtype(torch.float32)
