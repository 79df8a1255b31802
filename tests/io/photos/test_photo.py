"""Photos as values, and those that are refused before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantface_core.errors import ImageError, UsageError
from quantface_core.io.photos import Pages, Photo, write_pages, write_photo

_PIXELS = np.zeros((4, 6, 3), np.uint8)
_REFUSED: list[tuple[Any, str]] = [
    (_PIXELS, r"is a Photo, such as Photo\(pixels\), got ndarray"),
    (Photo(_PIXELS / 255), "must be uint8 or uint16, got float64"),
    (Photo(np.dstack([_PIXELS, _PIXELS[..., :1]])), r"\[height, width, 3\] and not empty, got \[4, 6, 4\]"),
    (Photo(_PIXELS, _PIXELS[:2, :2, 0]), r"do not match \(uint8 \[4, 6, 3\] and uint8 \[2, 2\]\): photo.with_pixels"),
    (Photo(_PIXELS, _PIXELS[..., 0].astype(np.uint16)), r"do not match \(uint8 .* and uint16 "),
]


@pytest.mark.parametrize(("given", "message"), _REFUSED)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_what_is_no_photo_is_not_written(tmp_path: Path, given: Any, message: str, suffix: str) -> None:
    with pytest.raises(ImageError, match=message):
        write_photo(given, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_path_before_the_photo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the photo comes before the path: write_photo\(photo, path\)"):
        write_photo(str(tmp_path / "a.png"), Photo(_PIXELS))  # type: ignore[arg-type]


def test_every_page_is_checked_and_there_is_one(tmp_path: Path) -> None:
    good = Photo(_PIXELS)
    for pages in ((good, Photo(_PIXELS[0])), (good, None), ()):
        with pytest.raises(ImageError, match=r"a\.tif: "):
            write_pages(Pages(pages), tmp_path / "a.tif")
    assert not list(tmp_path.iterdir())


def test_photos_can_be_compared_and_kept_in_sets() -> None:
    photo = Photo(_PIXELS)
    assert photo == photo
    assert photo not in (replace(photo), None)
    assert {photo, photo} == {photo}
