"""How large images may be, and how long a side each format holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.errors import ImageError
from quantface_core.io.photos import Pages, Photo, limits, read, read_pages, read_photo, tiff_write, write_pages
from quantface_core.io.photos.ifd import Directory


def _tiff(path: Path, *sizes: tuple[int, int]) -> None:
    pages = [(np.zeros((height, width, 1), np.uint8), Directory("<")) for width, height in sizes]
    path.write_bytes(tiff_write.write(pages, [1] * len(pages)))


def test_an_image_too_large_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((200, 200), np.uint8)).save(tmp_path / "big.png")
    monkeypatch.setattr(limits, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(read, "read_frame", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"200x200 .* shrink or crop"):
        read_photo(tmp_path / "big.png")


@pytest.mark.parametrize("size", [(0, 1), (1, 0)])
def test_an_image_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="no pixels"):
        limits.check_size(size)


def test_pages_of_different_sizes_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PIXELS", 10_000)
    _tiff(tmp_path / "pyramid.tif", (100, 100), *[(50, 50)] * 6)
    assert len(read_pages(tmp_path / "pyramid.tif").photos) == 7
    _tiff(tmp_path / "book.tif", *[(100, 100)] * 4, (1, 1))
    with pytest.raises(ImageError, match=r"book\.tif: its 5 pictures .* split it first"):
        read_pages(tmp_path / "book.tif")
    assert len(read_photo(tmp_path / "book.tif").notes) == 1


def test_pages_are_never_left_out_for_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_MOST_PAGES", 3)
    _tiff(tmp_path / "three.tif", *[(8, 8)] * 3)
    assert len(read_pages(tmp_path / "three.tif").photos) == 3
    _tiff(tmp_path / "four.tif", *[(8, 8)] * 4)
    with pytest.raises(ImageError, match=r"four\.tif: more than 3 pages; split it first"):
        read_pages(tmp_path / "four.tif")


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PIXELS", 100)
    page = Photo(np.zeros((10, 10, 3), np.uint8))
    write_pages(Pages((page,) * 4), tmp_path / "four.tif")
    for pages in (Pages((page,) * 5), Pages((Photo(np.zeros((11, 10, 3), np.uint8)),))):
        with pytest.raises(ImageError, match=r"out\.tif: .*megapixels"):
            write_pages(pages, tmp_path / "out.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["four.tif"]


@pytest.mark.parametrize(("name", "longest"), [("out.webp", 16_383), ("out.jpg", 65_500), ("out.JPEG", 65_500)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_side_longer_than_its_format_holds_is_told(tmp_path: Path, name: str, longest: int, turned: bool) -> None:
    def written(length: int) -> None:
        shape = (length, 2, 3) if turned else (2, length, 3)
        write_pages(Pages((Photo(np.zeros(shape, np.uint8)),)), tmp_path / name)

    written(longest)
    (tmp_path / name).unlink()
    with pytest.raises(ImageError, match=rf"{name}: .* holds at most {longest} pixels a side: name a \.png file"):
        written(longest + 1)
    assert not list(tmp_path.iterdir())


def test_pages_that_a_format_leaves_out_may_be_longer_than_it_holds(tmp_path: Path) -> None:
    first, long = (Photo(np.zeros((2, width, 3), np.uint8)) for width in (8, 16_400))
    (warning,) = write_pages(Pages((first, long)), tmp_path / "out.webp")
    assert "only the first of 2 pages" in warning
