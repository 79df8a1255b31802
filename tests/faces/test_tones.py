from __future__ import annotations

import numpy as np
import pytest

from quantface_core.faces.color import luma
from quantface_core.faces.paste import face_mask
from quantface_core.faces.tones import Tones, tones_of


@pytest.fixture
def face() -> np.ndarray:
    """A smooth crop whose luma deviates as an ordinary face's does."""
    coarse = np.random.default_rng(0).random((8, 8, 3)).astype(np.float32)
    crop = np.kron(coarse, np.ones((8, 8, 1), np.float32))
    return (0.5 + (crop - 0.5) * 0.2 / deviation(crop)).clip(0, 1)


def deviation(crop: np.ndarray) -> float:
    weights, values = face_mask(len(crop)), luma(crop)
    return float(np.sqrt(np.average((values - np.average(values, weights=weights)) ** 2, weights=weights)))


def test_an_ordinary_face_is_shown_as_it_is(face: np.ndarray) -> None:
    tone, after = tones_of(face), face * 0.9
    assert tone == Tones(1.0, 0.0)
    assert tone.shown(face) is face
    assert tone.restored(face, after) is after


@pytest.mark.parametrize(("scale", "offset"), [(0.3, 0.43), (0.12, 0.0), (0.29, 0.7), (-0.3, 0.7)])
def test_a_flat_face_is_shown_with_the_contrast_of_an_ordinary_one(
    face: np.ndarray, scale: float, offset: float
) -> None:
    flat = (scale * face + offset).astype(np.float32)
    shown = tones_of(flat).shown(flat)
    assert 0.1 < deviation(shown) < 0.2
    assert 0.3 < np.average(luma(shown), weights=face_mask(len(face))) < 0.7
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_its_change_comes_back_in_its_own_tones(face: np.ndarray) -> None:
    flat = (0.3 * face + 0.43).astype(np.float32)
    tone = tones_of(flat)
    shown = tone.shown(flat)
    assert tone.restored(flat, shown) == pytest.approx(flat)  # no change, where it was clipped too
    assert tone.restored(flat, shown + 0.1) == pytest.approx(flat + 0.1 / tone.gain)


def test_contrast_that_changes_a_little_changes_the_tones_a_little(face: np.ndarray) -> None:
    gains = [tones_of(0.5 + scale * (face - 0.5)).gain for scale in np.linspace(0.05, 1, 400)]
    assert max(b / a for a, b in zip(gains[1:], gains, strict=False)) < 1.06
    assert gains[0] <= 8
    assert gains[-1] == 1


def test_a_crop_without_any_contrast_has_tones_too() -> None:
    black = np.zeros((16, 16, 3), np.float32)
    tone = tones_of(black)
    assert np.isfinite(tone.shown(black)).all()
    assert np.array_equal(tone.restored(black, tone.shown(black)), black)
