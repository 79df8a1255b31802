"""Detail finer than the crop: as much is removed as is not kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quantface_core.faces.align import extract, invert, whole_transform
from quantface_core.faces.area import Area
from quantface_core.faces.fine_detail import FineDetail, removed_detail
from quantface_core.io.photos import read_photo
from quantface_core.types import Pixels

_CROP = 128


def removed(photo: Pixels, keep: float, area: Area | None = None) -> np.ndarray:
    to_photo = whole_transform(_CROP, _CROP, len(photo))
    detail = FineDetail(extract(photo, invert(to_photo), _CROP), np.full((_CROP, _CROP), keep, np.float32))
    return removed_detail(area or Area(0, 0, photo.shape[1], photo.shape[0]), photo, detail, to_photo)


@pytest.fixture(scope="module")
def portraits(train_faces: Path) -> list[Pixels]:
    """Portraits of 512 pixels."""
    return [read_photo(path).pixels for path in sorted((train_faces.parent / "large").glob("*.jpg"))[:6]]


def test_as_much_is_removed_as_is_not_kept(portraits: list[Pixels]) -> None:
    nothing, half, everything = (removed(portraits[0], keep) for keep in (1.0, 0.5, 0.0))
    assert not nothing.any()
    np.testing.assert_allclose(half, everything / 2, atol=1e-6)
    assert everything.std() > 0.005


def test_an_area_is_part_of_the_whole(portraits: list[Pixels]) -> None:
    part = Area(100, 50, 230, 300)
    np.testing.assert_allclose(removed(portraits[0], 0.3, part), removed(portraits[0], 0.3)[part.pixels], atol=1e-4)
