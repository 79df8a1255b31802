from __future__ import annotations

import cv2
import numpy as np
import pytest

from quantface_core.faces.color import luma
from quantface_core.faces.toning import GRAY, toning_of

DARK, LIGHT = np.array([40, 26, 13], np.float32) / 255, np.array([255, 240, 205], np.float32) / 255


def sepia(face: np.ndarray, quality: int = 60) -> np.ndarray:
    """A face [S, S, 3] uint8 as a toned print, compressed, in 0 to 1."""
    toned = DARK + (LIGHT - DARK) * luma(face.astype(np.float32) / 255)[..., None]
    stored = cv2.imencode(".jpg", np.rint(toned * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(stored, cv2.IMREAD_COLOR).astype(np.float32) / 255


def test_toned_prints_are_told_from_colour(faces: list[np.ndarray]) -> None:
    assert all(toning_of(sepia(face)) for face in faces)
    assert not any(toning_of(face.astype(np.float32) / 255) for face in faces)


def test_a_change_keeps_its_luma_in_the_prints_colours(faces: list[np.ndarray]) -> None:
    before = sepia(faces[0])
    toning = toning_of(before)
    assert toning
    red = np.zeros_like(before)
    red[64:128, 64:128] = 0.3, -0.1, -0.1
    after = before + toning.tone(before, red)
    assert np.array_equal(after[:64], before[:64])
    assert np.abs(luma(after) - luma(before + red)).max() < 0.02
    assert np.abs(after - toning.colors(luma(after))).mean() < 1.5 / 255


def test_a_black_and_white_face_gets_changes_without_colour(faces: list[np.ndarray]) -> None:
    before = np.repeat(luma(faces[0].astype(np.float32) / 255)[..., None], 3, axis=2)
    change = np.full_like(before, (0.2, -0.1, 0.0))
    assert toning_of(before) is GRAY
    made = GRAY.tone(before, change)
    assert (made == made[..., :1]).all()
    middle = (before > 0.1) & (before < 0.9)
    assert made[middle] == pytest.approx(float(luma(change)[0, 0]), abs=1e-5)


def test_a_crop_of_one_colour_has_a_curve_too() -> None:
    flat = np.full((32, 32, 3), (0.8, 0.6, 0.4), np.float32)
    toning = toning_of(flat)
    assert toning
    assert np.isfinite(toning.tone(flat, np.full_like(flat, 0.1))).all()
