"""An old group photo enlarged four times: deep eye sockets and beards, which a restorer likes to make black."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.faces.detect import FaceDetector
from quantface_core.io.photos import read_photo
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.restore import restore_photo
from quantface_core.types import Pixels, Restoration

_PATCH = 40  # of 255: a smear this much darker than the photo, wider than two pixels, is a patch


@pytest.fixture(scope="module")
def enlarged(photos: Path) -> Pixels:
    """Two men of Solvay 1927, one behind the other; their faces are 20 pixels in the photo, 80 here."""
    pixels = read_photo(photos / "solvay_1927_group.jpg").pixels[210:290, 330:395]
    return cv2.resize(pixels, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def restored(enlarged: Pixels, mini: OneStepRestorer, detector: FaceDetector) -> Restoration:
    return restore_photo(enlarged, mini, detector(enlarged))


def _smooth(pixels: Pixels) -> np.ndarray:
    return cv2.GaussianBlur(pixels[..., 0].astype(np.float32), (0, 0), 1.0)


def test_both_faces_are_restored(restored: Restoration) -> None:
    assert len(restored.restored) == 2


def test_no_eye_socket_or_beard_becomes_a_black_patch(enlarged: Pixels, restored: Restoration) -> None:
    darker = _smooth(enlarged) - _smooth(restored.pixels)
    assert darker.max() < _PATCH


def test_a_patch_would_be_seen(enlarged: Pixels, restored: Restoration) -> None:
    """What the issue shows: sockets filled with black. The measure has to see that."""
    patched = restored.pixels.copy()
    eye = np.round(restored.faces[0].landmarks[0]).astype(int)
    cv2.ellipse(patched, tuple(int(v) for v in eye), (6, 4), 0, 0, 360, (0, 0, 0), -1)
    assert (_smooth(enlarged) - _smooth(patched)).max() >= _PATCH
