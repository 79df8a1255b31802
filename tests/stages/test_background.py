"""Faces on a photo enlarged by other means: what a network invented of small ones is replaced, what it shows stays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.faces.detect import FaceDetector
from quantface_core.io.photos import read_photo
from quantface_core.options import RestoreOptions
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.background import face_oval, replaced_share
from quantface_core.stages.canvas import enlarged
from quantface_core.stages.restore import restore_photo
from quantface_core.types import Face
from tests.stages.psnr import psnr

FACTOR = 4


def painted(photo: np.ndarray) -> np.ndarray:
    """As a network enlarges what it cannot see: flat areas with hard edges."""
    flat = cv2.bilateralFilter(cv2.medianBlur(photo, 5), 9, 60, 5)
    return cv2.bilateralFilter(enlarged(flat, FACTOR), 15, 60, 9)


def reduced(face: Face, factor: int = FACTOR) -> Face:
    box, landmarks = (np.divide(places, factor).tolist() for places in (face.box, face.landmarks))
    return Face(tuple(box), tuple(map(tuple, landmarks)), face.score)


@pytest.fixture(scope="module")
def photo(photos: Path) -> np.ndarray:
    """A face of 25 pixels."""
    whole = read_photo(photos / "nasa_astronaut.png").pixels[:256, 96:352]
    return cv2.resize(whole, (64, 64), interpolation=cv2.INTER_AREA)


def test_an_invented_face_is_replaced_by_the_photos_own(
    photo: np.ndarray, mini: OneStepRestorer, detector: FaceDetector
) -> None:
    background, faces = painted(photo), detector(enlarged(photo, FACTOR))
    small = [reduced(face) for face in faces[:1]]
    result = restore_photo(photo, mini, small, background=background)
    alone = restore_photo(photo, mini, small, RestoreOptions(upscale=FACTOR))
    around, (left, top, width, height) = result.mask == 0, (round(value) for value in faces[0].box)
    face = np.s_[top + height // 5 : top + height * 4 // 5, left + width // 5 : left + width * 4 // 5]
    assert result.restored[0].applied_strength == pytest.approx(alone.restored[0].applied_strength)
    assert np.array_equal(result.pixels[around], background[around])
    assert psnr(background[face], alone.pixels[face]) < 28
    assert psnr(result.pixels[face], alone.pixels[face]) > 34


def test_a_graded_background_keeps_its_colours(
    photo: np.ndarray, mini: OneStepRestorer, detector: FaceDetector
) -> None:
    faces = [reduced(face) for face in detector(enlarged(photo, FACTOR))[:1]]
    left, top, width, height = (round(FACTOR * value) for value in faces[0].box)
    face = np.s_[top + height // 5 : top + height * 4 // 5, left + width // 5 : left + width * 4 // 5]
    for background in (painted(photo), enlarged(photo, FACTOR)):
        graded = np.rint(255 * (background / 255) ** (1.0, 1.3, 1.8) * (0.95, 0.9, 0.8)).astype(np.uint8)
        plain, warm = (restore_photo(photo, mini, faces, background=each) for each in (background, graded))
        assert not np.array_equal(warm.pixels[face], graded[face])
        drift = warm.pixels[face].mean((0, 1)) - graded[face].mean((0, 1))
        expected = plain.pixels[face].mean((0, 1)) - background[face].mean((0, 1))
        assert np.abs(drift - expected).max() < 10  # a cast is 70


def test_a_face_that_the_photo_shows_as_well_keeps_its_detail(
    photos: Path, mini: OneStepRestorer, detector: FaceDetector
) -> None:
    """The background is what the photo was made from."""
    background = read_photo(photos / "usnavy_grace_hopper.jpg").pixels
    photo = cv2.resize(background, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    faces = [reduced(face) for face in detector(background)[:1]]
    result = restore_photo(photo, mini, faces, background=background)
    assert psnr(result.pixels, background) > 40


def test_of_an_invented_face_the_hair_stays_unless_the_strength_is_given(
    photo: np.ndarray, mini: OneStepRestorer, detector: FaceDetector
) -> None:
    background = painted(photo)
    small = [reduced(face) for face in detector(enlarged(photo, FACTOR))[:1]]
    auto, full = (
        restore_photo(photo, mini, small, RestoreOptions(strength=s), background=background) for s in ("auto", 1.0)
    )
    inside, whole = ((result.pixels != background).any(2).sum() for result in (auto, full))
    assert 0.5 < inside / whole < 0.8


def test_hair_and_outline_stay_the_backgrounds() -> None:
    oval = face_oval(100)
    eyes, mouth, chin, ear, hair = oval[47, 38], oval[74, 41], oval[90, 50], oval[55, 12], oval[12, 50]
    assert min(eyes, mouth, chin) > 0.6
    assert max(ear, hair) == 0


def test_what_gains_nothing_stays_and_the_rest_is_replaced_step_by_step() -> None:
    shares = [replaced_share(strength) for strength in (0.0, 0.08, 0.14, 0.2, 1.0)]
    assert shares[:2] == [0, 0]
    assert 0.3 < shares[2] < 0.6
    assert shares[3:] == [1, 1]


def test_at_strength_1_a_backgrounds_own_tones_give_way_to_the_restored_face(
    photo: np.ndarray, mini: OneStepRestorer, detector: FaceDetector
) -> None:
    background, faces = enlarged(photo, FACTOR), detector(enlarged(photo, FACTOR))
    small = [reduced(face) for face in faces[:1]]
    waves = 12 * np.sin(np.arange(background.shape[1]) / 4)[:, None]  # that the restorer's crop resolves
    wavy = np.clip(background + waves, 0, 255).astype(np.uint8)
    one = RestoreOptions(strength=1, color="none")
    plain, result = (restore_photo(photo, mini, small, one, background=each) for each in (background, wavy))
    inside = result.mask > 0.95
    assert np.abs(wavy.astype(float) - background)[inside].mean() > 6
    assert np.abs(result.pixels.astype(float) - plain.pixels)[inside].mean() < 2
