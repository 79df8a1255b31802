"""Boxes and masks become faces with landmarks."""

from __future__ import annotations

import numpy as np
import pytest

from quantface_core.errors import UsageError
from quantface_core.faces.boxes import boxes_in_mask, face_in_box
from quantface_core.faces.detect import FaceDetector


def test_a_box_gives_a_face_of_its_size_in_its_middle() -> None:
    face = face_in_box((100.0, 50.0, 65.0, 100.0))
    points = np.array(face.landmarks)
    assert face.score == 1
    assert points[:, 0].min() > 100
    assert points[:, 0].max() < 165
    assert points[:, 1].min() > 50
    assert points[:, 1].max() < 150
    assert points[0, 0] + points[1, 0] == pytest.approx(2 * 132.5, abs=3)
    larger = np.array(face_in_box((200.0, 100.0, 130.0, 200.0)).landmarks)
    np.testing.assert_allclose(larger, points * 2)


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 0.0, 5.0), (0.0, 0.0, -3.0, 5.0), (0.0, float("nan"), 4.0, 5.0), (0, 0, 1e9, 1)]
)
def test_a_box_without_a_size_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(UsageError, match="box"):
        face_in_box(box)


def test_each_white_area_of_a_mask_is_a_box() -> None:
    mask = np.zeros((100, 120), np.float32)
    mask[10:40, 60:90] = 1
    mask[50:90, 5:35] = 0.7
    mask[0:3, 0:3] = 1  # a speck
    assert boxes_in_mask(mask) == [(5, 50, 30, 40), (60, 10, 30, 30)]
    assert boxes_in_mask(mask * 0.4) == []


def test_landmarks_are_found_in_a_rough_box(astronaut: np.ndarray, detector: FaceDetector) -> None:
    found = detector(astronaut)[0]
    left, top, width, height = found.box
    rough = (left - 0.1 * width, top + 0.05 * height, width * 1.15, height * 0.95)
    given = detector.within(astronaut, [rough])[0]
    assert given.score == 1
    assert given.box == rough
    assert np.abs(np.subtract(given.landmarks, found.landmarks)).max() < 0.05 * found.size


def test_a_box_without_a_face_keeps_its_upright_guess(detector: FaceDetector) -> None:
    gray = np.full((200, 200, 3), 90, np.uint8)
    box = (60.0, 60.0, 50.0, 70.0)
    assert detector.within(gray, [box])[0] == face_in_box(box)


def test_one_box_in_place_of_a_list_of_them_is_named(detector: FaceDetector) -> None:
    with pytest.raises(UsageError, match="a face's box is left, top, width, height in pixels, got 60"):
        detector.within(np.full((200, 200, 3), 90, np.uint8), (60.0, 60.0, 50.0, 70.0))  # type: ignore[arg-type]
