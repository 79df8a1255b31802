"""Coarse noise, as of film or of enlarged photos, shows at a smaller size, and is removed at the photo's own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.faces.clean import clean_face, remove_artifacts
from quantface_core.faces.noise import coarse_noise, noise_share
from quantface_core.faces.paste import face_mask
from quantface_core.types import Pixels
from tests.faces.test_clean import error, place_of, sized


def grainy(photo: Pixels, sigma: float, size: float) -> Pixels:
    """With gray grain of so many levels of 255, blurred by so many pixels."""
    grain = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, photo.shape[:2]), (0, 0), size)
    return np.clip(np.rint(photo + (sigma / grain.std() * grain)[..., None]), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("side", "size", "left"), [(200, 1.3, 0.95), (400, 1.3, 0.8), (400, 2.0, 0.85)])
def test_coarse_grain_goes(test_faces: list[Path], side: int, size: float, left: float) -> None:
    mask = face_mask(256)
    for path in test_faces[:3]:
        face = sized(path, side)
        bad = grainy(face, 12, size)
        found = clean_face(bad, mask, place_of(bad))
        assert found is not None
        assert found.removed == "noise"
        clean = remove_artifacts(bad, [(found, mask, place_of(bad))])
        assert error(clean, face) < left * error(bad, face)


@pytest.mark.parametrize("side", [70, 130, 256])
def test_of_a_clean_face_nothing_is_coarse_noise(test_faces: list[Path], side: int) -> None:
    mask = np.asarray(cv2.resize(face_mask(256), (side, side)), np.float32)
    for path in test_faces[:6]:
        assert coarse_noise(sized(path, side).astype(np.float32) / 255, mask, side) is None


def test_in_smaller_faces_more_counts_as_features() -> None:
    energies = [np.full(100, (3.5 / 255) ** 2, np.float32)]
    shares = [noise_share(energies, side) for side in (300, 96, 80, 60)]
    assert shares[0] == shares[1] > shares[2] > 0
    assert shares[3] == 0
    assert noise_share([], 100) == 0
