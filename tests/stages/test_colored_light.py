"""A face in the coloured light of a stage: restored as in white light, and in the light's colours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.io.photos import read_photo
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.restore import restore_aligned
from tests.stages.psnr import psnr


@pytest.mark.parametrize("light", [(1.0, 0.05, 0.08), (0.1, 0.15, 1.0)])
def test_a_blurred_face_gains(test_faces: list[Path], mini: OneStepRestorer, light: tuple[float, ...]) -> None:
    gains = []
    for path in test_faces[:2]:
        face = np.clip(np.rint(read_photo(path).pixels * np.array(light)), 0, 255).astype(np.uint8)
        bad = cv2.GaussianBlur(face, (0, 0), 2.0)
        made = restore_aligned(bad, mini).pixels
        gains.append(psnr(made, face) - psnr(bad, face))
        weak = int(np.argmin(light))
        assert np.abs(made[..., weak].astype(int) - bad[..., weak]).max() < 64 * max(light) * 0.5
    assert min(gains) > 0
    assert np.mean(gains) > 0.2


@pytest.mark.parametrize("paint", [(0.35, 0.65, 1.0), (0.5, 1.0, 0.5)])
def test_a_sharp_face_that_is_painted_stays(
    test_faces: list[Path], mini: OneStepRestorer, paint: tuple[float, ...]
) -> None:
    for path in test_faces[:2]:
        face = np.clip(np.rint(read_photo(path).pixels * np.array(paint)), 0, 255).astype(np.uint8)
        assert psnr(restore_aligned(face, mini).pixels, face) > 45
