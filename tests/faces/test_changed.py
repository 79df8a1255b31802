"""Which faces changed: those that hold a changed pixel, at the photo's own size and enlarged."""

from __future__ import annotations

from pathlib import Path

import cv2

from quantface_core import FaceDetector, detector_path, read_photo
from quantface_core.faces.changed import changed_faces


def test_a_face_is_changed_where_one_of_its_pixels_is(photos: Path) -> None:
    solvay = read_photo(photos / "solvay_1927_group.jpg").pixels
    faces = dict(enumerate(FaceDetector(detector_path())(solvay)))
    after = solvay.copy()
    left, top, width, height = (round(v) for v in faces[3].box)
    after[top + height // 2, left + width // 2] ^= 1
    assert changed_faces(solvay, after, faces, solvay.shape[:2]) == (3,)
    assert changed_faces(solvay, solvay.copy(), faces, solvay.shape[:2]) == ()
    after[:4, :4] ^= 1  # where nobody is
    larger = [cv2.resize(x, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST) for x in (solvay, after)]
    assert changed_faces(*larger, faces, solvay.shape[:2]) == (3,)
