"""Compression is measured by its quantization, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.faces.compression import quantization
from tests.faces.test_clean import compressed, sized

_QUALITIES = {85: 0.3, 75: 0.5, 50: 1.0, 35: 1.43, 20: 2.5}  # and what JPEG's own table is multiplied by


@pytest.mark.parametrize("quality", _QUALITIES)
@pytest.mark.parametrize("side", [128, 250, 600])
def test_it_is_what_the_quality_says(test_faces: list[Path], side: int, quality: int) -> None:
    for path in test_faces[:4]:
        assert quantization(compressed(sized(path, side), quality)) == pytest.approx(_QUALITIES[quality], rel=0.1)


@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (7, 1)])
def test_the_blocks_may_begin_anywhere(test_faces: list[Path], corner: tuple[int, int]) -> None:
    photo = compressed(sized(test_faces[0], 200), 30)
    assert quantization(photo[corner[0] :, corner[1] :]) == pytest.approx(quantization(photo), rel=0.05)


def test_a_photo_saved_again_at_better_quality_is_as_coarse(test_faces: list[Path]) -> None:
    once = compressed(sized(test_faces[0], 250), 40)
    assert quantization(compressed(once, 92)) == pytest.approx(quantization(once), rel=0.1)


def test_what_was_never_compressed_or_resized_since_is_not(test_faces: list[Path]) -> None:
    for path in test_faces[:12]:
        for side in (64, 200):
            photo = sized(path, side)
            assert quantization(photo) == 0
            smaller = cv2.resize(compressed(photo, 20), None, fx=0.85, fy=0.85, interpolation=cv2.INTER_AREA)
            assert quantization(np.asarray(smaller, np.uint8)) == 0


@pytest.mark.parametrize("factor", [2, 3, 4, 8, 16])
def test_repeated_pixels_are_no_compression(test_faces: list[Path], factor: int) -> None:
    assert quantization(sized(test_faces[0], 64).repeat(factor, 0).repeat(factor, 1)) == 0


def test_noise_gray_and_tiny_pictures_have_none() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    for picture in (noise, np.full((256, 256, 3), 77, np.uint8), noise[:20], noise[:1, :1], noise[:, :3]):
        assert quantization(picture) == 0


def test_16_bits_are_measured_as_8_are(test_faces: list[Path]) -> None:
    photo = compressed(sized(test_faces[0], 200), 30)
    assert quantization(photo.astype(np.uint16) * 257) == quantization(photo)
