from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.errors import ImageError
from quantface_core.faces import align
from quantface_core.faces.align import (
    FFHQ_TEMPLATE,
    compose,
    extract,
    face_transform,
    footprint,
    invert,
    is_in_view,
    resizing,
    similarity,
    whole_transform,
)
from quantface_core.types import Face


def matrix(scale: float, angle: float, x: float, y: float) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, x], [s, c, y]])


matrices = st.builds(matrix, st.floats(0.05, 20), st.floats(-3.1, 3.1), st.floats(-500, 500), st.floats(-500, 500))


@settings(max_examples=100, deadline=None)
@given(matrices)
def test_similarity_recovers_any_similarity(truth: np.ndarray) -> None:
    points = FFHQ_TEMPLATE * 200
    moved = points @ truth[:, :2].T + truth[:, 2]
    assert np.allclose(similarity(points, moved), truth, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(matrices, matrices)
def test_compose_and_invert_are_a_group(a: np.ndarray, b: np.ndarray) -> None:
    identity = np.eye(2, 3)
    assert np.allclose(compose(a, invert(a)), identity, atol=1e-6)
    point = np.array([3.0, -7.0])
    once = compose(a, b)
    twice = a[:, :2] @ (b[:, :2] @ point + b[:, 2]) + a[:, 2]
    assert np.allclose(once[:, :2] @ point + once[:, 2], twice)


def test_landmarks_land_on_the_template() -> None:
    tilted = FFHQ_TEMPLATE * 90 @ np.array([[0.6, 0.8], [-0.8, 0.6]]) + [300, 200]
    transform = face_transform(Face((0, 0, 1, 1), tuple(map(tuple, tilted)), 1.0), 256)
    assert np.allclose(tilted @ transform[:, :2].T + transform[:, 2], FFHQ_TEMPLATE * 256 - 0.5)


SHAPELESS = [
    np.zeros((5, 2)),
    np.full((5, 2), np.nan),
    np.outer([-32.2993, 50.7021, -41.7783, 58.4179, -35.0424], [1, 0]),  # in a row, as unlike a face as can be
]


@pytest.mark.parametrize("points", SHAPELESS)
def test_impossible_landmarks_are_refused(points: np.ndarray) -> None:
    face = Face((0, 0, 1, 1), tuple(map(tuple, points)), 1.0)
    with pytest.raises(ImageError, match="cannot be aligned"):
        face_transform(face, 64)
    assert not is_in_view(face, 100, 100)


def test_extract_of_the_whole_picture_is_the_picture(astronaut: np.ndarray) -> None:
    crop = extract(astronaut, whole_transform(512, 512, 512), 512)
    assert np.allclose(crop * 255, astronaut, atol=1e-3)


def test_extract_shrinks_without_aliasing() -> None:
    """Stripes finer than the crop's pixels become gray, not moire."""
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = extract(stripes, whole_transform(1024, 1024, 100), 100)
    assert np.abs(crop - 0.5).max() < 0.06


def test_extract_shrinks_without_blurring() -> None:
    """Stripes three of the crop's pixels wide keep most of their contrast."""
    wave = 127.5 + 127.5 * np.sin(2 * np.pi * np.arange(1000) / 7.5)
    stripes = np.broadcast_to(wave.round().astype(np.uint8)[None, :, None], (1000, 1000, 3))
    crop = extract(stripes, whole_transform(1000, 1000, 400), 400)
    assert crop.std() > 0.85 * stripes.std() / 255


def test_extract_stays_within_white_and_black() -> None:
    squares = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((4, 4)))[..., None].repeat(3, 2)
    crop = extract((squares * 255).astype(np.uint8), whole_transform(32, 32, 96), 96)
    assert (crop.min(), crop.max()) == (0, 1)


def test_extract_mirrors_past_the_border() -> None:
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 100, 0).repeat(3, 2)
    shifted = np.array([[1.0, 0, 50], [0, 1, 0]])  # the crop's left half lies outside
    crop = extract(ramp, shifted, 100)[50, :, 0] * 255
    face = slice(23, 50)  # beside it, the mirrored is blurred
    assert np.allclose(crop[face], ramp[50, 1:51, 0][::-1][face], atol=0.5)


def test_half_a_face_is_completed_by_its_mirror_image() -> None:
    draws = np.random.default_rng(0).integers(0, 256, (256, 128, 3), dtype=np.uint8)
    crop = np.rint(extract(draws, np.array([[1.0, 0, 128], [0, 1, 0]]), 256) * 255)
    assert np.array_equal(crop[100:170, 80:128], draws[100:170, 1:49][:, ::-1])


def test_around_the_face_no_copies_of_it_remain_past_the_border() -> None:
    squares = (np.kron(np.indices((32, 32)).sum(0) % 2, np.ones((4, 4))) * 255).astype(np.uint8)[..., None].repeat(3, 2)
    crop = extract(squares, np.array([[1.0, 0, 64], [0, 1, 64]]), 256)
    assert np.array_equal(np.rint(crop[64:192, 64:192] * 255), squares)
    assert crop[:24, :64].std() < 0.2 * squares.std() / 255
    assert crop[:, :24].std() < 0.2 * squares.std() / 255


def test_a_face_outside_the_photo_is_refused(astronaut: np.ndarray) -> None:
    with pytest.raises(ImageError, match="outside"):
        extract(astronaut, np.array([[1.0, 0, 5000], [0, 1, 0]]), 64)


@pytest.mark.parametrize("scale", [0.2, 0.9, 3.0])
def test_a_large_area_is_extracted_by_channel_to_the_same_bits(
    astronaut: np.ndarray, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    warped, warp = [], align.warp

    def counted(image: np.ndarray, *others: object) -> np.ndarray:
        warped.append(image.shape[2:])
        return warp(image, *others)

    monkeypatch.setattr(align, "warp", counted)
    transform = matrix(scale, 0.4, 20, -10)
    whole = extract(astronaut, transform, 128)
    monkeypatch.setattr(align, "_WHOLE", 0)
    assert np.array_equal(extract(astronaut, transform, 128), whole)
    assert warped == [(3,), (), (), ()]


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_extract_reads_both_depths_alike(astronaut: np.ndarray, depth: type) -> None:
    transform = matrix(0.7, 0.3, 20, -10)
    image = astronaut if depth == np.uint8 else astronaut.astype(np.uint16) * 257
    assert np.allclose(extract(image, transform, 128), extract(astronaut, transform, 128), atol=1e-5)


def test_footprint_is_clipped_and_half_open() -> None:
    assert footprint(np.eye(2, 3), 10, 100, 100) == (0, 0, 10, 10)
    assert footprint(np.array([[1.0, 0, -4], [0, 1, 95]]), 10, 100, 100) == (0, 95, 6, 100)


def test_upscaling_keeps_the_corners() -> None:
    corner = resizing(10, 10, 40, 40)
    assert np.allclose(corner[:, :2] @ [-0.5, -0.5] + corner[:, 2], [-0.5, -0.5])
