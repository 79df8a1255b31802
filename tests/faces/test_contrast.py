from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quantface_core.faces.color import luma
from quantface_core.faces.contrast import IDENTITY, contrast_stretch
from quantface_core.faces.paste import face_mask
from quantface_core.io.photos import read_photo
from tests.faces.test_light import LIGHTS, lit


@pytest.fixture
def face() -> np.ndarray:
    """A smooth crop whose luma deviates as an ordinary face's does."""
    coarse = np.random.default_rng(0).random((8, 8, 3)).astype(np.float32)
    crop = np.kron(coarse, np.ones((8, 8, 1), np.float32))
    return (0.5 + (crop - 0.5) * 0.22 / deviation(crop)).clip(0, 1)


def deviation(crop: np.ndarray) -> float:
    weights, values = face_mask(len(crop)), luma(crop)
    return float(np.sqrt(np.average((values - np.average(values, weights=weights)) ** 2, weights=weights)))


def test_an_ordinary_face_is_not_stretched(face: np.ndarray) -> None:
    stretch, after = contrast_stretch(face), face * 0.9
    assert stretch == IDENTITY
    assert stretch.apply(face) is face
    assert stretch.undo(face, after) is after


@pytest.mark.parametrize(("scale", "offset"), [(0.3, 0.43), (0.12, 0.0), (0.29, 0.7), (-0.3, 0.7)])
def test_a_flat_face_gets_the_contrast_of_an_ordinary_one(face: np.ndarray, scale: float, offset: float) -> None:
    flat = (scale * face + offset).astype(np.float32)
    stretched = contrast_stretch(flat).apply(flat)
    assert 0.1 < deviation(stretched) < 0.2
    assert 0.3 < np.average(luma(stretched), weights=face_mask(len(face))) < 0.7
    assert stretched.min() >= 0
    assert stretched.max() <= 1


def test_its_change_is_compressed_again(face: np.ndarray) -> None:
    flat = (0.3 * face + 0.43).astype(np.float32)
    stretch = contrast_stretch(flat)
    stretched = stretch.apply(flat)
    assert stretch.undo(flat, stretched) == pytest.approx(flat)  # no change, where it was clipped too
    assert stretch.undo(flat, stretched + 0.1) == pytest.approx(flat + 0.1 / stretch.gain)


@pytest.mark.parametrize(("black", "white"), [(70, 198), (110, 186), (0, 64)])
def test_faces_that_faded_alike_are_stretched_about_alike(test_faces: list[Path], black: int, white: int) -> None:
    """Faces differ more in their deviation of luma than in its range."""
    faded = [black + read_photo(path).pixels * np.float32((white - black) / 255) for path in test_faces[:32]]
    gains = [contrast_stretch((np.rint(face) / 255).astype(np.float32)).gain for face in faded]
    assert np.std(gains) < 0.16 * np.mean(gains)
    assert min(gains) > 1.2


@pytest.mark.parametrize("middle", [0.2, 0.5, 0.8])
def test_the_map_is_continuous_in_the_contrast(face: np.ndarray, middle: float) -> None:
    stretches = [contrast_stretch(middle + scale * (face - 0.5)) for scale in np.linspace(0.05, 1, 400)]
    middles = [stretch.gain * middle + stretch.offset for stretch in stretches]
    assert max(b.gain / a.gain for a, b in zip(stretches[1:], stretches, strict=False)) < 1.06
    assert max(abs(np.diff(middles))) < 0.02
    assert stretches[0].gain <= 8
    assert stretches[-1] == IDENTITY


def test_a_crop_without_any_contrast_stays() -> None:
    black = np.zeros((16, 16, 3), np.float32)
    stretch = contrast_stretch(black)
    assert np.isfinite(stretch.apply(black)).all()
    assert np.array_equal(stretch.undo(black, stretch.apply(black)), black)


@pytest.mark.parametrize("light", LIGHTS)
def test_the_strongest_channel_of_coloured_light_is_not_clipped(test_faces: list[Path], light: str) -> None:
    inside = face_mask(256) > 0.5
    for path in test_faces[:12]:
        crop = lit(read_photo(path).pixels, LIGHTS[light])
        stretch = contrast_stretch(crop)
        seen = stretch.apply(crop)
        assert (seen[inside] >= 1).mean() < 0.15
        assert deviation(seen) > 0.1
        assert np.abs(stretch.undo(crop, seen) - crop).max() < 1e-5
