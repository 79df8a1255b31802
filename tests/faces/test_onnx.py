"""OpenCV's networks from files that it cannot open, as it is on Windows for names beyond its code page."""

from __future__ import annotations

import shutil
from pathlib import Path
from threading import Event, Thread
from typing import Any

import cv2
import numpy as np
import pytest

from quantface_core import detector_path
from quantface_core.errors import ModelError
from quantface_core.faces import onnx
from quantface_core.faces.detect import FaceDetector
from quantface_core.faces.recognize import FaceRecognizer


def _as_on_windows(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create = kind.create
    if "bufferModel" not in create.__doc__:
        pytest.skip("this OpenCV makes no such network of bytes")

    def opened(model: str, *others: Any) -> Any:
        if not model.isascii():
            raise cv2.error("Can't read ONNX file")
        return create(model, *others)

    monkeypatch.setattr(kind, "create", opened)


def _copied(model: Path, folder: Path) -> Path:
    (folder / "Jürgen").mkdir()
    return Path(shutil.copy(model, folder / "Jürgen"))


def test_a_detector_may_lie_under_any_name(
    detector: FaceDetector, astronaut: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _as_on_windows(cv2.FaceDetectorYN, monkeypatch)
    assert FaceDetector(_copied(detector_path(), tmp_path))(astronaut) == detector(astronaut)


def test_a_recogniser_may_lie_under_any_name(
    recognizer_file: Path,
    detector: FaceDetector,
    astronaut: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    face = detector(astronaut)[0]
    expected = FaceRecognizer(recognizer_file)(astronaut, face)
    _as_on_windows(cv2.FaceRecognizerSF, monkeypatch)
    found = FaceRecognizer(_copied(recognizer_file, tmp_path))(astronaut, face)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("content", [b"", b"no network"])
def test_another_file_of_such_a_name_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "Jürgen.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="OpenCV can load"):
        FaceDetector(tmp_path / "Jürgen.onnx")
    with pytest.raises(ModelError, match="OpenCV can load"):
        FaceDetector(tmp_path / "Jürgen" / "missing.onnx")


@pytest.mark.skipif(not hasattr(cv2.utils, "logging"), reason="OpenCV 4.8 does not warn")
def test_opencv_says_what_it_said_before_once_all_threads_are_done() -> None:
    logging = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_WARNING)
    first, second = Event(), Event()

    def search() -> None:
        with onnx.quiet:
            first.set()
            second.wait(10)

    try:
        thread = Thread(target=search)
        thread.start()
        first.wait(10)
        with onnx.quiet:  # enters second and leaves last
            second.set()
            thread.join()
            assert logging.getLogLevel() == logging.LOG_LEVEL_ERROR
        assert logging.getLogLevel() == logging.LOG_LEVEL_WARNING
    finally:
        logging.setLogLevel(before)
