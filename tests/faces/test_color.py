from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from quantface_core.errors import UsageError
from quantface_core.faces.color import match_color


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


@pytest.mark.parametrize("method", ["none", "adain", "wavelet"])
def test_matching_a_face_to_itself_changes_nothing(face: np.ndarray, method: str) -> None:
    assert np.allclose(match_color(face, face, method), face, atol=1e-5)


def test_none_is_none(face: np.ndarray) -> None:
    assert match_color(face * 0.5, face, "none") == pytest.approx(face * 0.5)


def test_unknown_method(face: np.ndarray) -> None:
    with pytest.raises(UsageError, match="wavelet, adain, none"):
        match_color(face, face, "histogram")
