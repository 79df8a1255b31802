"""Identity angles and landmark distances, through OpenCV's recogniser with a stand-in network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantface_core.errors import ModelError
from quantface_core.faces.detect import FaceDetector
from quantface_core.faces.recognize import FaceRecognizer, identity_degrees, landmark_distance
from quantface_core.io.photos import read_photo
from quantface_core.types import Face


@pytest.fixture(scope="module")
def recognizer(recognizer_file: Path) -> FaceRecognizer:
    return FaceRecognizer(recognizer_file)


def test_the_same_face_elsewhere_is_nearer_than_another(
    recognizer: FaceRecognizer, detector: FaceDetector, test_faces: list[Path]
) -> None:
    first, second = (read_photo(path).pixels for path in test_faces[:2])
    face = detector(first)[0]
    # Moved by 20 pixels, face and landmarks: the crop is aligned by these, so the identity stays.
    left, top, *size = face.box
    shifted = Face((left + 20, top, *size), tuple((x + 20, y) for x, y in face.landmarks), face.score)
    here, there = recognizer(first, face), recognizer(np.roll(first, 20, axis=1), shifted)
    other = recognizer(second, detector(second)[0])
    assert np.linalg.norm(here) == pytest.approx(1)
    assert identity_degrees(here, there) < 1
    assert identity_degrees(here, other) > 5


def test_degrees_are_of_the_circle() -> None:
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert [identity_degrees(a, x) for x in (a, b, -a)] == pytest.approx([0, 90, 180])


def test_landmark_distance_is_told_for_512_pixels() -> None:
    face = Face((0, 0, 10, 10), ((1, 1), (5, 1), (3, 3), (2, 5), (4, 5)), 1.0)
    moved = replace(face, landmarks=tuple((x + 3, y + 4) for x, y in face.landmarks))
    assert landmark_distance(face, face, 256) == 0
    assert landmark_distance(face, moved, 512) == pytest.approx(5)
    assert landmark_distance(face, moved, 256) == pytest.approx(10)


def test_another_file_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(ModelError, match="face recogniser"):
        FaceRecognizer(broken)
