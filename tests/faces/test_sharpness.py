from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from quantface_core.faces.align import invert, whole_transform
from quantface_core.faces.paste import face_mask
from quantface_core.faces.sharpness import sharpness
from quantface_core.types import Pixels

MASK = face_mask(256)


def sharpness_at(face: Pixels, side: int, damage: Callable[[Pixels], Pixels] = lambda small: small) -> float:
    """Of a face whose crop has a side in pixels of the photo."""
    small = damage(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA))
    return sharpness(small, MASK, invert(whole_transform(side, side, 256)))


@pytest.mark.parametrize("side", [48, 64, 128])
def test_small_sharp_faces_are_told_from_blurred_ones(faces: list[Pixels], side: int) -> None:
    def blurred(sigma: float) -> Callable[[Pixels], Pixels]:
        return lambda small: cv2.GaussianBlur(small, (0, 0), sigma)

    assert np.mean([sharpness_at(face, side) for face in faces]) > 0.9
    assert np.mean([sharpness_at(face, side, blurred(0.5)) for face in faces]) < 0.35
    assert not any(sharpness_at(face, side, blurred(0.7)) for face in faces)


def test_contrast_depth_and_color_do_not_matter(faces: list[Pixels]) -> None:
    changes: list[Callable[[Pixels], Pixels]] = [
        lambda small: small // 4 + 100,
        lambda small: small.astype(np.uint16) * 257,
        lambda small: np.rint(small.mean(2, keepdims=True)).astype(np.uint8).repeat(3, 2),
    ]
    plain = np.array([sharpness_at(face, 96) for face in faces])
    for change in changes:
        assert np.abs(plain - [sharpness_at(face, 96, change) for face in faces]).mean() < 0.1


def test_faces_as_large_as_the_blend_network_sees_them_are_left_to_it(faces: list[Pixels]) -> None:
    assert max(sharpness_at(face, 192) for face in faces) == pytest.approx(0.5)
    assert not any(sharpness_at(face, 256) for face in faces)


def test_a_face_without_any_detail_is_not_sharp() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    assert sharpness_at(black, 64) == 0
    outside = np.array([[1.0, 0, 900], [0, 1, 0]])
    assert sharpness(black, MASK, outside) == 0
