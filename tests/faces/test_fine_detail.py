"""Detail finer than the crop: kept where it is detail, dropped where pixels were repeated."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core.faces.align import extract, invert, whole_transform
from quantface_core.faces.area import Area
from quantface_core.faces.fine_detail import FineDetail, is_blocks, removed_detail
from quantface_core.io.photos import read_photo
from quantface_core.types import Pixels

_CROP = 128
_FACES = range(4)


def removed(photo: Pixels, keep: float, area: Area | None = None) -> np.ndarray:
    to_photo = whole_transform(_CROP, _CROP, len(photo))
    detail = FineDetail(extract(photo, invert(to_photo), _CROP), np.full((_CROP, _CROP), keep, np.float32))
    return removed_detail(area or Area(0, 0, photo.shape[1], photo.shape[0]), photo, detail, to_photo)


def blocky(photo: Pixels) -> bool:
    return is_blocks(photo, _CROP, whole_transform(_CROP, _CROP, len(photo)))


@pytest.fixture(scope="module")
def portraits(train_faces: Path) -> list[Pixels]:
    """Portraits of 512 pixels."""
    return [read_photo(path).pixels for path in sorted((train_faces.parent / "large").glob("*.jpg"))[:6]]


def test_as_much_is_removed_as_is_not_kept(portraits: list[Pixels]) -> None:
    nothing, half, everything = (removed(portraits[0], keep) for keep in (1.0, 0.5, 0.0))
    assert not nothing.any()
    np.testing.assert_allclose(half, everything / 2, atol=1e-6)
    assert everything.std() > 0.005


@pytest.mark.parametrize("index", _FACES)
@pytest.mark.parametrize("side", [64, 100, 128])
def test_of_repeated_pixels_nothing_stays(portraits: list[Pixels], index: int, side: int) -> None:
    clean = portraits[index]
    small = cv2.resize(clean, (side, side), interpolation=cv2.INTER_AREA)
    blocks = cv2.resize(small, clean.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    assert blocky(blocks)
    kept = np.rint(blocks - 255 * removed(blocks, 0.0)).clip(0, 255)
    before, after = (float(np.square(x - clean.astype(float)).mean()) for x in (blocks, kept))
    assert after < before


@pytest.mark.parametrize("index", _FACES)
def test_a_sharp_portrait_is_no_blocks(portraits: list[Pixels], index: int) -> None:
    assert not blocky(portraits[index])


def test_a_photo_no_finer_than_its_crop_is_no_blocks(portraits: list[Pixels]) -> None:
    small = cv2.resize(portraits[0], (_CROP // 4, _CROP // 4), interpolation=cv2.INTER_AREA)
    assert not blocky(cv2.resize(small, (_CROP, _CROP), interpolation=cv2.INTER_NEAREST))


def test_repeated_pixels_finer_than_the_crop_are_detail(portraits: list[Pixels]) -> None:
    small = cv2.resize(portraits[0], (256, 256), interpolation=cv2.INTER_AREA)
    assert not blocky(cv2.resize(small, (512, 512), interpolation=cv2.INTER_NEAREST))


def test_an_area_is_part_of_the_whole(portraits: list[Pixels]) -> None:
    part = Area(100, 50, 230, 300)
    np.testing.assert_allclose(removed(portraits[0], 0.3, part), removed(portraits[0], 0.3)[part.pixels], atol=1e-4)
