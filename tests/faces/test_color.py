from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from quantface_core.errors import UsageError
from quantface_core.faces.color import is_gray, luma, match_color


@pytest.fixture(scope="module")
def face(test_faces: list[Path]) -> np.ndarray:
    return np.asarray(Image.open(test_faces[0]).convert("RGB"), np.float32) / 255


@pytest.mark.parametrize("method", ["adain", "wavelet"])
def test_a_colour_cast_goes(face: np.ndarray, method: str) -> None:
    cast = face * np.float32([0.8, 1.0, 1.1]) + np.float32([0.1, 0, -0.05])
    before, after = np.abs(cast - face).mean(), np.abs(match_color(cast, face, method) - face).mean()
    assert after < 0.25 * before


def test_wavelet_keeps_new_detail(face: np.ndarray) -> None:
    blurred = cv2.GaussianBlur(face, (0, 0), 2)
    assert np.abs(match_color(face, blurred, "wavelet") - face).mean() < 0.3 * np.abs(blurred - face).mean()


def tinted(face: np.ndarray, sigma: float, deviation: float) -> np.ndarray:
    """A face with seeded blotches of colour that leave its luma: `sigma` in pixels, `deviation` in shares of white."""
    draws = np.random.default_rng(0).standard_normal(face.shape, dtype=np.float32)
    blotches = cv2.GaussianBlur(draws, (0, 0), sigma)
    blotches -= luma(blotches)[..., None]
    return face + blotches * np.float32(deviation / blotches.std())


@pytest.mark.parametrize(("sigma", "left"), [(10, 0.25), (16, 0.5)])
def test_wavelet_takes_few_blotches_of_colour_from_a_compressed_photo(
    face: np.ndarray, sigma: float, left: float
) -> None:
    photo = tinted(face, sigma, 6 / 255)
    matched = match_color(face, photo, "wavelet")
    assert np.square(matched - face).mean() < left * np.square(photo - face).mean()


@pytest.mark.parametrize("sigma", [20, 30])
def test_wavelet_undoes_a_restorer_s_drift_in_hue(face: np.ndarray, sigma: float) -> None:
    drifted = tinted(face, sigma, 0.8 / 255)
    matched = match_color(drifted, face, "wavelet")
    assert np.square(matched - face).mean() < 0.1 * np.square(drifted - face).mean()


def test_wavelet_takes_shading_of_any_depth(face: np.ndarray) -> None:
    shade = cv2.GaussianBlur(np.random.default_rng(0).standard_normal((*face.shape[:2], 1)), (0, 0), 30)[..., None]
    photo = (face + 0.1 * shade / shade.std()).astype(np.float32)
    matched = match_color(face, photo, "wavelet")
    assert np.square(matched - photo).mean() < 0.1 * np.square(photo - face).mean()


@pytest.mark.parametrize("method", ["none", "adain", "wavelet"])
def test_matching_a_face_to_itself_changes_nothing(face: np.ndarray, method: str) -> None:
    assert np.allclose(match_color(face, face, method), face, atol=1e-5)


def test_none_is_none(face: np.ndarray) -> None:
    assert match_color(face * 0.5, face, "none") == pytest.approx(face * 0.5)


@pytest.mark.parametrize("method", ["none", "adain", "wavelet"])
def test_a_face_without_contrast_stays_finite(face: np.ndarray, method: str) -> None:
    assert np.isfinite(match_color(np.full_like(face, 0.5), face, method)).all()


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
@pytest.mark.parametrize("channel", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_trace_of_tint_is_gray_and_a_colour_is_not(channel: int, sign: int, dtype: type, white: float) -> None:
    pixels = np.full((64, 64, 3), white / 2, dtype)
    pixels[::4, :, channel] = white * (0.5 + sign * 0.012)  # 0.003 of white on average
    assert is_gray(pixels)
    pixels[1::4, :, channel] = white * (0.5 + sign * 0.012)
    assert not is_gray(pixels)


def test_luma_is_that_of_rec_601() -> None:
    assert luma(np.eye(3, dtype=np.float32)[None])[0] == pytest.approx([0.299, 0.587, 0.114])


def test_unknown_method(face: np.ndarray) -> None:
    with pytest.raises(UsageError, match="wavelet, adain, none"):
        match_color(face, face, "histogram")
