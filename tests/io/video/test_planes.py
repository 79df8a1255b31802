"""Planes shown as RGB, and changed by what RGB changed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.io.video.planes import Coding, enlarged_planes, to_rgb, turned, with_change

CODINGS = st.builds(
    Coding, st.sampled_from(["bt709", "bt601", "bt2020", "smpte240m"]), st.booleans(), st.sampled_from([8, 10, 12])
)
SUBSAMPLINGS = st.sampled_from([(1, 1), (1, 2), (2, 2), (1, 4)])


def coded(picture: np.ndarray, coding: Coding, across: int, down: int) -> list[np.ndarray]:
    """Planes of an RGB picture in 0 to 1, the long way."""
    black, span, colors = coding.scales()
    values = picture @ coding.from_rgb().T
    height, width = picture.shape[:2]
    dtype = np.uint8 if coding.bits == 8 else np.uint16
    planes = [np.rint(values[..., 0] * span + black).astype(dtype)]
    for i in (1, 2):
        small = cv2.resize(values[..., i], (-(-width // across), -(-height // down)), interpolation=cv2.INTER_AREA)
        planes.append(np.rint(small * colors + (1 << (coding.bits - 1))).astype(dtype))
    return planes


def smooth(seed: int, height: int, width: int) -> np.ndarray:
    values = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(values, (0, 0), 8)
    return 0.15 + 0.7 * (blurred - blurred.min()) / np.ptp(blurred)


@settings(max_examples=25, deadline=None)
@given(coding=CODINGS, subsampling=SUBSAMPLINGS, seed=st.integers(0, 99), size=st.tuples(*[st.integers(40, 71)] * 2))
def test_planes_are_shown_and_changed_right(
    coding: Coding, subsampling: tuple[int, int], seed: int, size: tuple[int, int]
) -> None:
    down, across = subsampling
    picture = smooth(seed, *size)
    planes = coded(picture, coding, across, down)
    before = to_rgb(planes, coding)
    white = np.iinfo(before.dtype).max
    assert before.dtype == (np.uint8 if coding.bits == 8 and coding.matrix == "rgb" else np.uint16)
    assert np.abs(before / white - picture).mean() * 255 < 2
    mask = np.zeros(size, np.float32)
    mask[11:30, 9:33] = 1
    after = np.where(mask[..., None] > 0, before * 0.8, before).astype(before.dtype)
    result = with_change(planes, coding, before, after, mask)
    shown = to_rgb(result, coding) / white * 255
    wanted = after / white * 255
    assert np.abs(shown[13:27, 15:27] - wanted[13:27, 15:27]).max() < 5
    for plane, changed in zip(planes, result, strict=True):
        rows, columns = (-(-s // p) for s, p in zip(size, plane.shape, strict=True))
        away = np.ones(plane.shape, bool)
        away[11 // rows : -(-30 // rows), 9 // columns : -(-33 // columns)] = False
        assert np.array_equal(plane[away], changed[away])


def test_nothing_changes_where_nothing_changed() -> None:
    draws = np.random.default_rng(0)
    planes = [draws.integers(0, 256, shape, dtype=np.uint8) for shape in ((31, 45), (16, 23), (16, 23))]
    shown = to_rgb(planes, Coding())
    for mask in (np.zeros((31, 45), np.float32), np.ones((31, 45), np.float32)):
        result = with_change(planes, Coding(), shown, shown, mask)
        assert all(map(np.array_equal, planes, result))


def test_color_between_two_numbers_is_not_rounded() -> None:
    gray, red = np.full((2, 8), 128, np.uint8), np.array([[128, 128, 129, 129]], np.uint8)
    reds = to_rgb([gray, gray[:1, :4], red], Coding("bt601"))[0, :, 0].astype(int)
    assert (np.diff(reds)[2:5] > 0).all()  # in quarters of what a whole number makes
    assert reds[-1] - reds[0] == pytest.approx(1.402 / 224 * 65535, abs=1)


def test_gray_and_rgb_planes() -> None:
    gray = [np.arange(256, dtype=np.uint8).reshape(16, 16)]
    shown = to_rgb(gray, Coding("bt601", full=True))
    assert np.array_equal(shown, np.repeat(gray[0][..., None], 3, axis=2) * np.uint16(257))
    lighter = np.minimum(shown.astype(int) + 7 * 257, 65535).astype(np.uint16)
    changed = with_change(gray, Coding("bt601", full=True), shown, lighter, np.ones((16, 16), np.float32))
    assert np.array_equal(changed[0], lighter[..., 0] // 257)
    red = [np.full((4, 4), 9, np.uint16), np.zeros((4, 4), np.uint16), np.zeros((4, 4), np.uint16)]
    assert to_rgb(red, Coding("rgb", True, 16))[0, 0].tolist() == [9, 0, 0]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turning_planes_turns_the_picture(quarters: int) -> None:
    planes = coded(smooth(0, 40, 60), Coding(), 2, 2)
    turned_after = np.rot90(to_rgb(planes, Coding()), quarters)
    difference = turned_after.astype(int) - to_rgb(turned(planes, quarters), Coding())
    assert np.abs(difference).max() <= 4 * 257  # chroma lies left of its pixels: turned, it lies above or right of them
    assert np.abs(difference).mean() < 0.25 * 257


def test_enlarged_planes_keep_to_their_bits() -> None:
    plane = np.zeros((20, 20), np.uint16)
    plane[:, 10:] = 1023
    (large,) = enlarged_planes([plane], 2, 10)
    assert large.shape == (40, 40)
    assert int(large.max()) == 1023
