"""A face that is sharp already stays, whatever the restorer does to it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.faces.detect import FaceDetector
from quantface_core.io.photos import read_photo
from quantface_core.options import RestoreOptions
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.outcome import describe_change
from quantface_core.stages.restore import restore_aligned, restore_photo
from tests.stages.psnr import psnr
from tests.stages.toy_restorers import Waxy


def test_a_sharp_portrait_stays_and_is_told_so(photos: Path, mini: OneStepRestorer, detector: FaceDetector) -> None:
    photo = read_photo(photos / "usnavy_grace_hopper.jpg").pixels
    faces = detector(photo)
    result = restore_photo(photo, mini, faces)
    inside = result.mask > 0.5
    assert np.array_equal(result.pixels, photo)
    assert describe_change(result.restored[0].applied_strength) == "left as it was: no gain expected"
    full = restore_photo(photo, mini, faces, RestoreOptions(strength=1))
    assert psnr(full.pixels[inside], photo[inside]) > 38  # the model alone does it next to no harm either


def test_a_sharp_portrait_stays_whatever_the_restorer(photos: Path, detector: FaceDetector) -> None:
    photo = read_photo(photos / "usnavy_grace_hopper.jpg").pixels
    faces = detector(photo)
    result, full = (restore_photo(photo, Waxy(), faces, RestoreOptions(strength=s)) for s in ("auto", 1))
    inside = result.mask > 0.5
    assert psnr(result.pixels[inside], photo[inside]) > 40
    assert psnr(full.pixels[inside], photo[inside]) < 36


@pytest.mark.parametrize("number", [7, 9])
def test_a_sharp_face_that_fills_its_photo_stays(
    train_faces: Path, mini: OneStepRestorer, detector: FaceDetector, number: int
) -> None:
    portrait = read_photo(sorted((train_faces.parent / "large").glob("*.jpg"))[number]).pixels
    photo = np.ascontiguousarray(portrait[143:399, 128:384])  # from the brows to below the mouth
    result = restore_photo(photo, mini, detector(photo))
    assert len(result.restored) == 1
    assert np.array_equal(result.pixels, photo)


@pytest.mark.parametrize("number", [0, 13])
def test_an_oversharpened_portrait_is_not_waxed(
    train_faces: Path, mini: OneStepRestorer, detector: FaceDetector, number: int
) -> None:
    portrait = read_photo(sorted((train_faces.parent / "large").glob("*.jpg"))[number]).pixels
    photo = cv2.addWeighted(portrait, 3, cv2.GaussianBlur(portrait, (0, 0), 1.5), -2, 0)
    result = restore_photo(photo, mini, detector(photo))
    assert len(result.restored) == 1
    assert psnr(result.pixels[result.mask > 0.5], photo[result.mask > 0.5]) > 45


@pytest.mark.parametrize(("number", "quality"), [(0, 100), (1, 95)])
def test_a_small_face_as_sharp_as_its_pixels_stays(
    test_faces: list[Path], mini: OneStepRestorer, number: int, quality: int
) -> None:
    """Enlarged for the network it looks blurred, like every face of so few pixels."""
    small = cv2.resize(read_photo(test_faces[number]).pixels, (64, 64), interpolation=cv2.INTER_AREA)
    if quality < 100:
        stored = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        small = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)
    assert np.array_equal(restore_aligned(small, mini).pixels, small)
    assert not np.array_equal(restore_aligned(small, mini, RestoreOptions(strength=1.0)).pixels, small)
    enlarged = restore_aligned(small, mini, RestoreOptions(upscale=2))
    assert enlarged.restored[0].applied_strength > 0.2
    blurred = restore_aligned(cv2.GaussianBlur(small, (0, 0), 1.0), mini)
    assert blurred.restored[0].applied_strength > 0.5


def test_a_background_sharper_than_what_was_restored_stays(photos: Path, detector: FaceDetector) -> None:
    background = read_photo(photos / "usnavy_grace_hopper.jpg").pixels
    photo = cv2.resize(cv2.GaussianBlur(background, (0, 0), 2.0), (256, 300), interpolation=cv2.INTER_AREA)
    result = restore_photo(photo, Waxy(), detector(photo), background=background)
    assert len(result.restored) == 1
    assert psnr(result.pixels, background) > 40


def test_a_restorer_of_random_weights_changes_next_to_nothing(
    tiny: OneStepRestorer, test_faces: list[Path], astronaut: np.ndarray, detector: FaceDetector
) -> None:
    for path in test_faces[:4]:
        face = read_photo(path).pixels
        assert psnr(restore_aligned(face, tiny).pixels, face) > 38
    assert psnr(restore_photo(astronaut, tiny, detector(astronaut)).pixels, astronaut) > 40
