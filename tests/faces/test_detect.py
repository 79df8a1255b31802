from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.errors import ModelError
from quantface_core.faces.detect import FaceDetector, merge
from quantface_core.io.photos import read_photo
from quantface_core.types import Face

SURE = 0.7


def sure(faces: tuple[Face, ...]) -> list[Face]:
    return [face for face in faces if face.score >= SURE]


@pytest.mark.parametrize(
    ("name", "count", "smallest", "largest"),
    [
        ("nasa_astronaut.png", 1, 85, 125),
        ("usnavy_grace_hopper.jpg", 1, 160, 230),
        ("solvay_1927_group.jpg", 29, 12, 30),
    ],
)
def test_finds_every_face_of_the_photos(
    detector: FaceDetector, photos: Path, name: str, count: int, smallest: float, largest: float
) -> None:
    faces = sure(detector(read_photo(photos / name).pixels))
    assert len(faces) == count
    assert smallest <= min(f.size for f in faces)
    assert max(f.size for f in faces) <= largest


def test_finds_a_face_that_fills_a_huge_photo(detector: FaceDetector, test_faces: list[Path]) -> None:
    face = cv2.resize(read_photo(test_faces[0]).pixels, (4000, 4000), interpolation=cv2.INTER_CUBIC)
    found = sure(detector(face))
    assert len(found) == 1
    assert found[0].size > 1500


@pytest.mark.parametrize("angle", [-90, -40, 40, 90, 180])
def test_finds_tilted_faces_where_they_are(detector: FaceDetector, astronaut: np.ndarray, angle: float) -> None:
    upright = sure(detector(astronaut))[0]
    turn = cv2.getRotationMatrix2D((226, 120), angle, 1.0)
    faces = sure(detector(cv2.warpAffine(astronaut, turn, (512, 512))))
    expected = np.array(upright.landmarks) @ turn[:, :2].T + turn[:, 2]
    assert len(faces) == 1
    assert np.abs(np.array(faces[0].landmarks) - expected).max() < 8


def test_16_bit_photos_are_searched_alike(detector: FaceDetector, astronaut: np.ndarray) -> None:
    assert detector(astronaut.astype(np.uint16) * 257) == detector(astronaut)


def test_no_face_no_result(detector: FaceDetector) -> None:
    assert sure(detector(np.full((200, 300, 3), 90, np.uint8))) == []
    assert sure(detector(np.zeros((1, 1, 3), np.uint8))) == []


def test_merge_keeps_the_surest_of_nested_and_shifted_boxes() -> None:
    points = ((0.0, 0.0),) * 5
    big, shifted, nested = (
        Face(b, points, s) for b, s in (((0, 0, 100, 100), 0.8), ((5, 5, 100, 100), 0.9), ((30, 30, 20, 20), 0.6))
    )
    neighbour = Face((105, 0, 100, 100), points, 0.7)
    assert merge([big, shifted, nested, neighbour]) == (shifted, neighbour)


def test_a_file_that_is_no_detector(tmp_path: Path) -> None:
    (tmp_path / "fake.onnx").write_text("not a network")
    with pytest.raises(ModelError, match="not a face detector"):
        FaceDetector(tmp_path / "fake.onnx")
