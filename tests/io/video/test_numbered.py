"""Numbered images as a film."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("av")

from quantface_core.io.video.numbered import NumberedFrames


def test_frames_made_anew_are_others(tmp_path: Path) -> None:
    for name, value in (("f_1.bmp", 0), ("f_2.bmp", 0)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), value, np.uint8))
    before = NumberedFrames(tmp_path, Fraction(25)).fingerprint()
    assert NumberedFrames(tmp_path, Fraction(25)).fingerprint() == before
    found = (tmp_path / "f_2.bmp").stat()
    cv2.imwrite(str(tmp_path / "f_2.bmp"), np.full((8, 8, 3), 255, np.uint8))
    os.utime(tmp_path / "f_2.bmp", ns=(found.st_atime_ns, found.st_mtime_ns + 10**9))
    assert (tmp_path / "f_2.bmp").stat().st_size == found.st_size
    assert NumberedFrames(tmp_path, Fraction(25)).fingerprint() != before
