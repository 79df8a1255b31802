from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from quantface_core import detector_path
from quantface_core.errors import ModelError
from quantface_core.faces import detect
from quantface_core.faces.boxes import face_in_box
from quantface_core.faces.detect import FaceDetector
from quantface_core.faces.duplicates import DOUBTFUL_SCORE
from quantface_core.io.photos import read_photo
from quantface_core.types import Face, Pixels

SHARED = Path(__file__).resolve().parents[3] / "shared"
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


def test_threads_share_a_detector(detector: FaceDetector, astronaut: np.ndarray) -> None:
    """As a server's do: no thread's answer is another's, and OpenCV does not fail."""
    sizes = (160, 224, 320, 288)
    photos = [cv2.resize(astronaut, (size, size), interpolation=cv2.INTER_AREA) for size in sizes] * 2
    alone = [detector(photo) for photo in photos]
    with ThreadPoolExecutor(len(photos)) as pool:
        assert list(pool.map(detector, photos)) == alone


@pytest.mark.parametrize("angle", [-90, -40, 40, 90, 180])
def test_finds_tilted_faces_where_they_are(detector: FaceDetector, astronaut: np.ndarray, angle: float) -> None:
    upright = sure(detector(astronaut))[0]
    turn = cv2.getRotationMatrix2D((226, 120), angle, 1.0)
    faces = sure(detector(cv2.warpAffine(astronaut, turn, (512, 512))))
    expected = np.array(upright.landmarks) @ turn[:, :2].T + turn[:, 2]
    assert len(faces) == 1
    assert np.abs(np.array(faces[0].landmarks) - expected).max() < 8


def test_no_piece_of_a_huge_photo_is_large(astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two polls the detector never takes more than some of 60 megapixels, so that a cancel is heard."""
    pieces: list[int] = [0]
    searched = FaceDetector(detector_path(), lambda: pieces.append(0))
    resize, net = cv2.resize, searched._net._net

    def counted(image: np.ndarray, *given: Any, **named: Any) -> np.ndarray:
        pieces[-1] += image.shape[0] * image.shape[1]
        return resize(image, *given, **named)

    class Net:
        setInputSize = net.setInputSize  # noqa: N815

        def detect(self, image: np.ndarray) -> Any:
            pieces[-1] += image.shape[0] * image.shape[1]
            return net.detect(image)

    monkeypatch.setattr(cv2, "resize", counted)
    monkeypatch.setattr(searched._net, "_net", Net())
    searched(np.broadcast_to(astronaut[:1, :1], (12000, 5000, 3)))
    assert sum(pieces) > 60_000_000
    assert max(pieces) <= 24_000_000


def test_the_search_ends_where_polling_raises(astronaut: np.ndarray) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FaceDetector(detector_path(), stop)(astronaut)


def test_strips_of_a_huge_photo_meet(
    detector: FaceDetector, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = cv2.resize(astronaut, (1900, 2083), interpolation=cv2.INTER_LINEAR)
    whole, scale = detector._to_bgr8(large, 0.31)
    monkeypatch.setattr(detect, "_PIECE", large[..., 0].size // 7)
    strips, same = detector._to_bgr8(large, 0.31)
    assert strips.shape == whole.shape
    assert same == scale
    apart = np.abs(strips.astype(int) - whole)
    assert 0 < apart.max() <= 24  # at edges: strips begin at whole pixels
    assert apart.mean() < 0.5


def test_16_bit_photos_are_searched_alike(detector: FaceDetector, astronaut: np.ndarray) -> None:
    assert detector(astronaut.astype(np.uint16) * 257) == detector(astronaut)


def test_no_face_no_result(detector: FaceDetector) -> None:
    assert sure(detector(np.full((200, 300, 3), 90, np.uint8))) == []
    assert sure(detector(np.zeros((1, 1, 3), np.uint8))) == []


def test_a_file_that_is_no_detector(tmp_path: Path) -> None:
    (tmp_path / "fake.onnx").write_text("not a network")
    with pytest.raises(ModelError, match="not a face detector"):
        FaceDetector(tmp_path / "fake.onnx")


def turned(pixels: Pixels, angle: float) -> Pixels:
    """The whole picture turned, on gray, nothing cut off."""
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    size = np.abs(matrix[:, :2]) @ [width, height] + 2
    matrix[:, 2] += (size - [width, height]) / 2
    return cv2.warpAffine(pixels, matrix, tuple(int(s) for s in size), borderValue=(120, 120, 120))


@pytest.fixture(scope="module")
def portraits() -> list[Pixels]:
    paths = sorted((SHARED / "faces" / "large").glob("*.jpg"))
    if not paths:
        pytest.skip("needs ../shared/faces/large beside the project")
    return [read_photo(path).pixels for path in paths]


def fitted(pixels: Pixels, side: int) -> Pixels:
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


def near(faces: list[Face], x: float, y: float, reach: float) -> int:
    """How many faces have their middle there."""
    return sum(bool(np.hypot(*(np.mean(f.landmarks, axis=0) - (x, y))) < reach) for f in faces)


@pytest.mark.parametrize("angle", [60, 90, 120, 180, 250, 270])
def test_a_portrait_is_found_however_it_is_turned(detector: FaceDetector, photos: Path, angle: float) -> None:
    picture = turned(read_photo(photos / "usnavy_grace_hopper.jpg").pixels, angle)
    faces = sure(detector(picture))
    assert len(faces) == 1
    eyes = np.subtract(faces[0].landmarks[1], faces[0].landmarks[0])
    assert abs((np.degrees(np.arctan2(-eyes[1], eyes[0])) - angle + 180) % 360 - 180) < 12


@pytest.mark.parametrize("quarter", range(4))
def test_a_crowd_is_found_however_it_is_turned(detector: FaceDetector, portraits: list[Pixels], quarter: int) -> None:
    scene = np.full((1024, 1280, 3), 110, np.uint8)
    for i, portrait in enumerate(portraits[:24]):
        top, left = 30 + i // 6 * 245, 20 + i % 6 * 210
        scene[top : top + 180, left : left + 180] = fitted(portrait, 180)
    assert len(sure(detector(np.ascontiguousarray(np.rot90(scene, quarter))))) == 24


@pytest.mark.parametrize("quarter", [1, 3])
def test_one_who_lies_among_others_who_stand(
    detector: FaceDetector, photos: Path, portraits: list[Pixels], quarter: int
) -> None:
    scene = np.full((800, 1200, 3), 110, np.uint8)
    for i in range(4):
        scene[20:240, 20 + i * 290 : 240 + i * 290] = fitted(portraits[i], 220)
    lying = np.rot90(read_photo(photos / "usnavy_grace_hopper.jpg").pixels, quarter)[:510, :600]
    scene[280:790, 200:800] = lying
    faces = sure(detector(scene))
    assert len(faces) == 5


@pytest.mark.parametrize("quarter", range(4))
def test_what_is_no_face_stays_doubtful(detector: FaceDetector, astronaut: Pixels, quarter: int) -> None:
    """Upside down, her suit is a face of 0.75 to the detector."""
    found = detector(np.ascontiguousarray(np.rot90(astronaut, quarter)))
    assert len(sure(found)) == 1
    assert all(face.score <= DOUBTFUL_SCORE for face in found if face not in sure(found))


def test_no_face_is_found_between_faces(detector: FaceDetector, test_faces: list[Path]) -> None:
    """A tight mosaic: as many finds as faces, each in its own square."""
    side, columns, rows = 100, 12, 5
    mosaic = np.zeros((rows * side, columns * side, 3), np.uint8)
    for i in range(rows * columns):
        top, left = i // columns * side, i % columns * side
        mosaic[top : top + side, left : left + side] = fitted(read_photo(test_faces[i]).pixels, side)
    faces = sure(detector(mosaic))
    assert len(faces) == rows * columns
    for i in range(rows * columns):
        assert near(faces, i % columns * side + 50, i // columns * side + 60, 25) == 1


def test_an_enlarged_jpeg_holds_one_face(detector: FaceDetector, test_faces: list[Path]) -> None:
    for path in test_faces[::24]:
        _, data = cv2.imencode(".jpg", read_photo(path).pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 20])
        blocks = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
        assert len(sure(detector(cv2.resize(blocks, (1024, 1024), interpolation=cv2.INTER_CUBIC)))) == 1


def test_a_small_face_before_a_large_one(detector: FaceDetector, portraits: list[Pixels]) -> None:
    for i in range(0, 20, 6):
        picture = np.full((1000, 900, 3), 120, np.uint8)
        picture[60:828, 60:828] = cv2.resize(portraits[i], (768, 768), interpolation=cv2.INTER_CUBIC)
        picture[640:860, 340:560] = fitted(portraits[(i + 7) % 24], 220)
        faces = sure(detector(picture))
        assert near(faces, 450, 755, 40) == 1, i
        assert near(faces, 444, 470, 90) == 1, i


def test_cheek_to_cheek(detector: FaceDetector, portraits: list[Pixels]) -> None:
    y, x = np.mgrid[:300, :300]
    head = ((x - 150) / 85) ** 2 + ((y - 160) / 120) ** 2 < 1
    for i in range(0, 20, 3):
        picture = np.full((420, 600, 3), 120, np.uint8)
        picture[60:360, 60:360] = fitted(portraits[i], 300)
        picture[70:370, 200:500][head] = fitted(portraits[(i + 5) % 24], 300)[head]
        assert len(sure(detector(picture))) == 2, i


def test_small_faces_in_a_very_wide_picture(detector: FaceDetector, test_faces: list[Path]) -> None:
    strip = np.full((240, 8000, 3), 115, np.uint8)
    for i in range(32):
        strip[20:220, i * 250 + 4 : i * 250 + 204] = fitted(read_photo(test_faces[i]).pixels, 200)
    faces = sure(detector(strip))
    assert sum(near(faces, i * 250 + 104, 140, 40) == 1 for i in range(32)) >= 31
    assert len(faces) <= 33  # OpenCV 4 takes a shoulder for one


def test_a_face_in_a_halftone_print(detector: FaceDetector, portraits: list[Pixels]) -> None:
    """Its dots hide it from the detector, until they are blurred."""
    photo = cv2.resize(portraits[0], (300, 300), interpolation=cv2.INTER_AREA)
    axis = np.arange(300) * np.sqrt(2) * np.pi / 5
    dots = (np.cos(axis[:, None] + axis) + np.cos(axis[:, None] - axis)) / 4 + 0.5
    ink = np.clip((cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY) / 255 - dots) * 6 + 0.5, 0, 1)
    printed = np.repeat(np.rint(cv2.GaussianBlur(15 + 225 * ink, (0, 0), 0.8)).astype(np.uint8)[..., None], 3, axis=2)
    (face,), clean = [f for f in detector(printed) if f.score > 0.7], detector(photo)[0]
    assert np.abs(np.subtract(face.landmarks, clean.landmarks)).max() < 0.1 * clean.size


def faded(pixels: Pixels, contrast: float) -> Pixels:
    return np.rint(150 + contrast * pixels).astype(np.uint8)


def test_faces_at_a_tenth_of_the_contrast(detector: FaceDetector, portraits: list[Pixels]) -> None:
    scene = np.full((440, 880, 3), 120, np.uint8)
    for i in range(8):
        top, left = 10 + i // 4 * 220, 10 + i % 4 * 220
        scene[top : top + 200, left : left + 200] = fitted(portraits[3 * i], 200)
    assert len(sure(detector(faded(scene, 0.1)))) == 8


def test_a_face_at_a_twentieth_of_the_contrast(detector: FaceDetector, portraits: list[Pixels]) -> None:
    """It is found only in the stretched picture."""
    (face,), clean = sure(detector(faded(portraits[0], 0.05))), detector(portraits[0])[0]
    assert np.abs(np.subtract(face.landmarks, clean.landmarks)).max() < 0.1 * clean.size


def test_landmarks_of_blurred_faces_stay_near(detector: FaceDetector, portraits: list[Pixels]) -> None:
    """The detector's errors do not add up while it looks again and again."""
    scene = np.full((300, 1200, 3), 120, np.uint8)
    for i in range(24):
        top, left = i // 12 * 150 + 25, i % 12 * 100
        scene[top : top + 100, left : left + 100] = fitted(portraits[i], 100)
    clean, errors = sure(detector(scene)), []
    for face in sure(detector(cv2.GaussianBlur(scene, (0, 0), 2.5))):
        apart = [np.subtract(face.landmarks, other.landmarks) for other in clean]
        errors.append(min(float(np.hypot(a[:, 0], a[:, 1]).mean()) for a in apart) / face.size)
    assert len(errors) >= 23
    assert np.mean(errors) < 0.044


def test_a_box_away_from_the_face_is_left() -> None:
    """A suit below the face may be found first; looking again settles on the face, and the box has to follow."""
    face = replace(face_in_box((100.0, 100.0, 80.0, 100.0)), score=0.9)
    assert detect._fitting_box(replace(face, box=(104.0, 95.0, 80.0, 100.0))) == (104.0, 95.0, 80.0, 100.0)
    left, top, *_ = detect._fitting_box(replace(face, box=(100.0, 190.0, 80.0, 100.0)))
    assert (left, top) == pytest.approx((100, 100), abs=15)


def test_the_box_fits_the_face_that_was_settled_on(detector: FaceDetector, astronaut: Pixels) -> None:
    for quarter in range(4):
        face = sure(detector(np.ascontiguousarray(np.rot90(astronaut, quarter))))[0]
        assert 70 < face.size < 130
        left, top, width, height = face.box
        x, y = np.mean(face.landmarks, axis=0)
        assert abs(x - left - width / 2) < 0.3 * face.size
        assert abs(y - top - height / 2) < 0.3 * face.size
