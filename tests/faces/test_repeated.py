"""Pictures enlarged by repeating pixels are enlarged smoothly; others are not touched."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from quantface_core.faces.repeated import smoothly_enlarged
from quantface_core.io.photos import read_photo
from quantface_core.types import Pixels
from tests.faces.test_clean import compressed


def repeated(pixels: Pixels, times: int) -> Pixels:
    return pixels.repeat(times, 0).repeat(times, 1)


def enlarged(blocks: Pixels) -> Pixels:
    smooth = smoothly_enlarged(blocks)
    assert smooth is not None
    return smooth


def error(pixels: Pixels, original: Pixels) -> float:
    return float(np.square(pixels.astype(float) - original).mean())


@pytest.fixture(scope="module")
def portraits(test_faces: list[Path]) -> list[Pixels]:
    return [read_photo(path).pixels[:240, :240] for path in test_faces[1:30:7]]


@pytest.mark.parametrize("times", [2, 3, 4, 5, 8])
def test_repeated_pixels_come_nearer_to_the_original(portraits: list[Pixels], times: int) -> None:
    for portrait in portraits:
        small = cv2.resize(portrait, None, fx=1 / times, fy=1 / times, interpolation=cv2.INTER_AREA)
        blocks, original = repeated(small, times)[1:-2, 2:], portrait[1:-2, 2:]  # the border cuts blocks
        assert error(enlarged(blocks), original) < 0.85 * error(blocks, original)


@pytest.mark.parametrize("size", [(301, 380), (440, 517), (611, 540), (902, 1001), (1630, 1447)])
def test_factors_need_not_be_whole_nor_the_same_in_both_directions(
    portraits: list[Pixels], size: tuple[int, int]
) -> None:
    """As ComfyUI's nearest-exact enlarges a picture to a size that is no multiple of its own."""
    for portrait in portraits:
        wide = cv2.resize(portrait, size, interpolation=cv2.INTER_CUBIC)[7:, 5:]
        blocks = nearest(portrait, size)[7:, 5:]
        assert error(enlarged(blocks), wide) < 0.4 * error(blocks, wide)


def nearest(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    larger = F.interpolate(tensor, size=size[::-1], mode="nearest-exact")
    return np.ascontiguousarray(larger[0].permute(1, 2, 0).numpy())


def test_repeated_in_one_direction_is_no_enlarged_picture(portraits: list[Pixels]) -> None:
    assert smoothly_enlarged(np.repeat(portraits[0], 2, 0)) is None
    assert smoothly_enlarged(np.repeat(portraits[0], 2, 1)) is None


def test_repeated_pixels_are_noticed_after_compression(portraits: list[Pixels]) -> None:
    for times, quality in ((2, 90), (3, 80), (4, 50), (5, 70), (8, 75)):
        small = cv2.resize(portraits[0], None, fx=1 / times, fy=1 / times, interpolation=cv2.INTER_AREA)
        blocks = compressed(repeated(small, times), quality)
        assert error(enlarged(blocks), portraits[0]) < 0.85 * error(blocks, portraits[0]), times


def test_photos_stay_as_they_are(portraits: list[Pixels]) -> None:
    """Also those with blocks of heavy compression, which contain detail."""
    for portrait in portraits:
        for quality in (90, 20, 8):
            photo = compressed(portrait, quality)
            assert smoothly_enlarged(photo) is None
            for how in (cv2.INTER_LINEAR, cv2.INTER_CUBIC):
                larger = cv2.resize(photo, (720, 720), interpolation=how)
                assert smoothly_enlarged(larger) is None


def test_16_bits_and_the_smallest_regions(portraits: list[Pixels]) -> None:
    blocks = repeated(portraits[0][::4, ::4], 4)
    deep = enlarged(blocks.astype(np.uint16) * 257)
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - enlarged(blocks)).max() <= 2
    for shape in ((1, 1, 3), (1, 40, 3), (40, 1, 3), (7, 9, 3)):
        flat = np.full(shape, 90, np.uint8)
        assert smoothly_enlarged(flat) is None
