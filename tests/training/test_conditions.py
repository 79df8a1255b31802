"""What the blend network is trained on: crops as a restorer is given them, and their originals."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def faces(test_faces: list[Path]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in test_faces[:4]])


def test_a_crop_depends_on_its_generator_alone(module: ModuleType, faces: np.ndarray) -> None:
    one, again, other = (module.draw_crop(faces, 0.5, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert one[0].shape == one[1].shape == faces.shape[1:]
    assert one[0].dtype == one[1].dtype == np.uint8
    assert all(map(np.array_equal, one, again))
    assert not np.array_equal(one[0], other[0])


def test_crops_reach_from_clean_to_hardly_a_face(module: ModuleType, faces: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    errors = []
    for severity in (0.0, 1.0):
        pairs = [module.draw_crop(faces, severity, rng) for _ in range(24)]
        errors.append(np.mean([np.square(bad.astype(float) - clean).mean() for bad, clean, _ in pairs]))
    assert errors[1] > 2 * errors[0]


def test_a_small_face_has_no_more_detail_than_its_photo_can_show(module: ModuleType, faces: np.ndarray) -> None:
    rng, sides = np.random.default_rng(1), []
    for _ in range(12):
        _, clean, side = module.draw_crop(faces, 0.0, rng)
        sides.append(side)
        shown = module.through_photo(clean, side)
        again = module.through_photo(shown, side).astype(float)
        assert np.abs(again - shown).mean() < 1.5
    assert min(sides) < 128 < max(sides) == 256


def test_a_small_noisy_face_is_cleaned_in_the_photo_s_own_pixels(module: ModuleType, faces: np.ndarray) -> None:
    for seed, face in enumerate(faces):
        small = np.asarray(cv2.resize(face, (96, 96), interpolation=cv2.INTER_AREA), np.uint8)
        noise = np.random.default_rng(seed).normal(0, 15, small.shape)
        noisy = np.clip(np.rint(small + noise), 0, 255).astype(np.uint8)
        enlarged, crop = cv2.resize(noisy, (256, 256), interpolation=cv2.INTER_CUBIC), module.crop_of(noisy, 256)
        assert np.square(crop - face.astype(float)).mean() < 0.7 * np.square(enlarged - face.astype(float)).mean()
