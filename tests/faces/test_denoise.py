"""Noise that restorers take for texture goes before they see it; what is sharp and clean is not touched."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.faces.align import compose, extract, shift, whole_transform
from quantface_core.faces.denoise import denoised
from quantface_core.faces.paste import face_mask
from quantface_core.io.photos import read_photo
from quantface_core.types import Crop, Pixels

_CROP = 256


def sized(path: Path, side: int) -> Pixels:
    return np.asarray(cv2.resize(read_photo(path).pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def noisy(photo: Pixels, sigma: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, sigma, photo.shape)
    return np.clip(np.rint(photo + noise), 0, 255).astype(np.uint8)


def crops(photo: Pixels) -> tuple[Crop, Crop]:
    """A photo that is a face's crop, at the crop's size: as it is, and denoised."""
    place = whole_transform(*photo.shape[1::-1], _CROP)
    crop = extract(photo, place, _CROP)
    return crop, denoised(crop, photo, face_mask(_CROP), place)


@pytest.mark.parametrize("side", [100, 160, 256, 512])
def test_a_clean_face_is_the_same_array(test_faces: list[Path], side: int) -> None:
    for path in test_faces[:6]:
        crop, clean = crops(sized(path, side))
        assert clean is crop


@pytest.mark.parametrize(("sigma", "left"), [(8, 0.85), (20, 0.5)])  # of the squared error
@pytest.mark.parametrize("side", [100, 160, 256])
def test_noise_goes(test_faces: list[Path], side: int, sigma: float, left: float) -> None:
    for path in test_faces[:4]:
        face = sized(path, side)
        (true, _), (crop, clean) = crops(face), crops(noisy(face, sigma))
        inside = face_mask(_CROP) > 0.5
        errors = [float(np.square(x - true)[inside].mean()) for x in (crop, clean)]
        assert errors[1] < left * errors[0]


def test_a_face_too_small_to_tell_noise_from_features_is_left(test_faces: list[Path]) -> None:
    crop, clean = crops(noisy(sized(test_faces[0], 64), 20))
    assert clean is crop


def test_16_bits_are_denoised_as_8_are(test_faces: list[Path]) -> None:
    photo = noisy(sized(test_faces[0], 160), 15)
    (_, eight), (_, sixteen) = crops(photo), crops(photo.astype(np.uint16) * 257)
    assert np.abs(eight - sixteen).max() < 2 / 255


def test_a_face_at_the_border_is_denoised_too(test_faces: list[Path]) -> None:
    photo = noisy(sized(test_faces[0], 200), 15)
    place = whole_transform(200, 200, _CROP)
    beyond = compose(place, shift(0, 60))  # the photo without its uppermost 60 rows
    whole, part = (
        denoised(extract(x, p, _CROP), x, face_mask(_CROP), p) for x, p in ((photo, place), (photo[60:], beyond))
    )
    inner = np.s_[120:240, 20:230]
    assert np.abs(whole[inner] - part[inner]).mean() < 1 / 255
