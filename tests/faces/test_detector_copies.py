"""Detectors in other processes, as of Ray, Celery and spawned workers, and in deep copies of what holds them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from quantface_core.bundled import DEMO_PHOTO
from quantface_core.faces.detect import FaceDetector
from quantface_core.io.models import detector_path
from quantface_core.io.photos import read_photo


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda held: pickle.loads(pickle.dumps(held))])
def test_copies_find_the_same_faces(copied: Callable[[FaceDetector], FaceDetector]) -> None:
    detector = FaceDetector(detector_path())  # a new one: OpenCV 4 rounds otherwise once it has seen smaller photos
    pixels = read_photo(DEMO_PHOTO).pixels
    assert copied(detector)(pixels) == detector(pixels)
