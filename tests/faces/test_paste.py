from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.faces import area
from quantface_core.faces.align import extract, invert
from quantface_core.faces.fine_detail import FineDetail
from quantface_core.faces.paste import Patch, face_mask, paste
from tests.faces.test_align import matrix

SIZE = 64
OLD = cv2.__version__.startswith("4.8")  # its warps round places more coarsely


placements = st.builds(matrix, st.floats(0.1, 3), st.floats(-3.1, 3.1), st.floats(-100, 250), st.floats(-100, 250))


def noise(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def test_mask_is_soft_and_ends_inside_the_crop() -> None:
    mask = face_mask(256)
    assert mask.max() == 1
    assert mask[[0, -1]].max() == mask[:, [0, -1]].max() == 0
    assert np.abs(np.diff(mask, axis=0)).max() < 0.05
    assert mask[120, 96] == mask[120, 159] == mask[186, 128] == 1  # eyes and mouth


@settings(max_examples=60, deadline=None)
@given(st.lists(placements, max_size=4), st.sampled_from([np.uint8, np.uint16]))
def test_nothing_outside_the_mask_changes(matrices: list[np.ndarray], depth: type) -> None:
    base = (noise(0, (150, 200, 3)) * np.iinfo(depth).max).astype(depth)
    before = base.copy()
    patches = [Patch(noise(i, (SIZE, SIZE, 3)) - 0.5, face_mask(SIZE), m) for i, m in enumerate(matrices)]
    result, mask = paste(base, patches)
    assert np.array_equal(base, before)
    assert np.array_equal(result[mask == 0], base[mask == 0])
    assert mask.min() >= 0
    assert mask.max() <= 1


@settings(max_examples=30, deadline=None)
@given(st.lists(placements, min_size=2, max_size=4))
def test_order_does_not_matter(matrices: list[np.ndarray]) -> None:
    base = (noise(1, (150, 200, 3)) * 255).astype(np.uint8)
    patches = [Patch(noise(i, (SIZE, SIZE, 3)) - 0.5, face_mask(SIZE), m) for i, m in enumerate(matrices)]
    forward, backward = paste(base, patches)[0], paste(base, patches[::-1])[0]
    assert np.abs(forward.astype(int) - backward).max() <= 1  # float sums round differently


def test_no_change_no_change() -> None:
    base = (noise(2, (100, 100, 3)) * 255).astype(np.uint8)
    result, mask = paste(base, [Patch(np.zeros((SIZE, SIZE, 3), np.float32), face_mask(SIZE), matrix(1, 0.4, 40, 10))])
    assert np.array_equal(result, base)
    assert mask.max() == 1


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_a_change_arrives_whole(scale: float) -> None:
    """A uniform brightening reaches its full amount inside the mask, at any size."""
    side = int(SIZE * scale)
    base = np.full((side, side, 3), 100, np.uint8)
    patch = Patch(
        np.full((SIZE, SIZE, 3), 0.2, np.float32), face_mask(SIZE), matrix(scale, 0, (scale - 1) / 2, (scale - 1) / 2)
    )
    result, mask = paste(base, [patch])
    assert (result[mask > 0.999] == 151).all()
    assert result[mask == 0].max(initial=100) == 100


def test_two_identical_faces_on_one_place_count_once() -> None:
    patch = Patch(np.full((SIZE, SIZE, 3), 0.2, np.float32), face_mask(SIZE), matrix(1, 0, 0, 0))
    base = np.full((SIZE, SIZE, 3), 100, np.uint8)
    result, _ = paste(base, [patch, patch])
    assert result.max() == 151


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_detail_finer_than_the_crop_stays_as_far_as_the_patch_says(keep: float) -> None:
    photo = np.random.default_rng(0).integers(
        64, 192, (256, 256, 3), np.uint8
    )  # noise that a crop a quarter as large loses
    place = np.array([[4.0, 0, 1.5], [0, 4.0, 1.5]])
    crop = extract(photo, invert(place), 64)
    fine_detail = FineDetail(crop, np.full((64, 64), keep, np.float32))
    patch = Patch(np.zeros_like(crop), np.ones((64, 64), np.float32), place, fine_detail)
    result, _ = paste(photo, [patch])
    before, after = (x[32:-32, 32:-32].astype(float).std() for x in (photo, result))
    assert after == pytest.approx(before * keep, abs=0.25 * before)
    assert keep < 1 or np.array_equal(result, photo)


def test_a_photo_coarser_than_the_crop_has_no_finer_detail_to_lose() -> None:
    photo = np.random.default_rng(0).integers(64, 192, (64, 64, 3), np.uint8)
    to_photo = matrix(0.5, 0, -0.25, -0.25)
    crop = extract(photo, invert(to_photo), 128)
    fine_detail = FineDetail(crop, np.zeros((128, 128), np.float32))
    result, _ = paste(photo, [Patch(np.zeros_like(crop), np.ones((128, 128), np.float32), to_photo, fine_detail)])
    assert np.array_equal(result, photo)


def test_a_face_before_a_larger_one_is_pasted_as_its_own() -> None:
    side = SIZE * 5
    inner, outer = matrix(1, 0, 2 * SIZE, 2 * SIZE), matrix(5, 0, 2, 2)
    brighter, darker = (np.full((SIZE, SIZE, 3), change, np.float32) for change in (0.2, -0.2))
    patches = [Patch(darker, face_mask(SIZE), outer), Patch(brighter, face_mask(SIZE), inner)]
    result, mask = paste(np.full((side, side, 3), 100, np.uint8), patches)
    middle = np.s_[2 * SIZE + 24 : 2 * SIZE + 40, 2 * SIZE + 24 : 2 * SIZE + 40]
    assert result[middle].min() > 100 + 0.9 * 0.2 * 255
    beside = (mask > 0.999) & (np.abs(np.indices((side, side)) - 2.5 * SIZE).max(0) > SIZE // 2)
    assert (result[beside] == 49).all()


@pytest.fixture
def two_of_a_grainy_photo() -> tuple[np.ndarray, list[Patch]]:
    """A photo, and two faces on it that overlap, with fine detail to be removed."""
    photo = np.random.default_rng(3).integers(64, 192, (300, 400, 3), np.uint8)
    patches = []
    for i, to_photo in enumerate((matrix(4, 0.3, 60, 20), matrix(3, -0.2, 180, 60))):
        crop = extract(photo, invert(to_photo), SIZE)
        fine_detail = FineDetail(crop, np.full((SIZE, SIZE), 0.7, np.float32))
        patches.append(Patch(noise(i, (SIZE, SIZE, 3)) * 0.2 - 0.1, face_mask(SIZE), to_photo, fine_detail))
    return photo, patches


def test_where_a_tile_ends_is_not_seen(
    two_of_a_grainy_photo: tuple[np.ndarray, list[Patch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, mask = paste(*two_of_a_grainy_photo)
    monkeypatch.setattr(area, "_TILE", 57)
    tiled, tiled_mask = paste(*two_of_a_grainy_photo)
    assert np.abs(tiled.astype(int) - whole).max() <= (2 if OLD else 1)  # a warp's places are rounded from its corner
    assert np.abs(tiled_mask - mask).max() < 0.01
    assert np.count_nonzero((tiled_mask > 0) != (mask > 0)) <= (2 if OLD else 0)
    assert (whole != two_of_a_grainy_photo[0]).mean() > 0.3


def test_a_large_photo_takes_little_memory() -> None:
    side = 2048
    photo = np.random.default_rng(4).integers(64, 192, (side, side, 3), np.uint8)
    to_photo = matrix(side / SIZE, 0, side / SIZE / 2, side / SIZE / 2)
    tracemalloc.start()
    crop = extract(photo, invert(to_photo), SIZE)
    fine_detail = FineDetail(crop, np.ones((SIZE, SIZE), np.float32))
    paste(photo, [Patch(np.zeros_like(crop), face_mask(SIZE), to_photo, fine_detail)])
    assert tracemalloc.get_traced_memory()[1] / side**2 < 30  # bytes a pixel; 70 in one piece
    tracemalloc.stop()
