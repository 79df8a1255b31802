"""Pages of a TIFF, each read from its own bytes alone."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from quantface_core.io.photos import exif, read_pages, read_photo, tiff
from quantface_core.io.photos.ifd import LONG, SHORT, Directory, directories, header, pack


@pytest.fixture(scope="module")
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))


def _shown(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of all files that libtiff is shown from now on."""
    sizes: list[int] = []
    start = TiffImagePlugin.TiffImageFile.__init__

    def counted(self: Any, fp: io.BytesIO, *others: Any, **named: Any) -> None:
        sizes.append(len(fp.getbuffer()))
        start(self, fp, *others, **named)

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "__init__", counted)
    return sizes


@pytest.mark.parametrize("mode", ["RGB", "P", "1"])
@pytest.mark.parametrize("codec", [None, "tiff_lzw"])
def test_many_pages_are_shown_once_in_all(
    tmp_path: Path, noise: Image.Image, monkeypatch: pytest.MonkeyPatch, mode: str, codec: str | None
) -> None:
    pages = [noise.transpose(turn).convert(mode) for turn in (0, 1) * 10]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression=codec)
    sizes = _shown(monkeypatch)
    read = read_pages(tmp_path / "a.tif").photos
    assert len(sizes) == len(pages)
    assert sum(sizes) < 1.5 * (tmp_path / "a.tif").stat().st_size
    for photo, page in zip(read, pages, strict=True):
        assert np.array_equal(photo.pixels, np.asarray(page.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "P"])
@pytest.mark.parametrize("length", [0, 0xFFFFFF, None])
def test_blocks_of_no_or_too_great_a_length_end_where_the_next_begin(
    tmp_path: Path, noise: Image.Image, mode: str, length: int | None
) -> None:
    page = noise.convert(mode)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page], compression="tiff_lzw")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    for directory in list(directories(bytes(data))):
        if length is not None:
            directory.patch(data, tiff.STRIP_BYTES, length)
        else:  # a tag that means nothing in its stead
            struct.pack_into("<H", data, directory.where[tiff.STRIP_BYTES] - 8, 65_000)
    (tmp_path / "a.tif").write_bytes(data)
    for photo in read_pages(tmp_path / "a.tif").photos:
        assert np.array_equal(photo.pixels, np.asarray(page.convert("RGB")))


def test_a_page_of_the_old_jpeg_is_read_with_what_it_points_to(tmp_path: Path) -> None:
    smooth = np.mgrid[:48, :64][1].astype(np.uint8) * 3
    file = io.BytesIO()
    Image.fromarray(smooth).convert("RGB").save(file, "JPEG", subsampling=0, quality=95)
    stream = file.getvalue() + b"\0" * (len(file.getvalue()) % 2)
    page = Directory("<")
    for tag, *values in (
        (tiff.BITS, 8, 8, 8),
        (tiff.COMPRESSION, 6),
        (tiff.PHOTOMETRIC, 6),
        (exif.ORIENTATION, 3),
        (tiff.SAMPLES, 3),
        (530, 1, 1),  # YCbCr's subsampling: none
    ):
        page.put(tag, SHORT, *values)
    for tag, value in ((tiff.WIDTH, 64), (tiff.HEIGHT, 48), (tiff.STRIPS, 8), (tiff.STRIP_BYTES, len(stream))):
        page.put(tag, LONG, value)
    page.put(513, LONG, 8)  # where its stream of JPEG is, and its length
    page.put(514, LONG, len(stream))
    place = 8 + len(stream)
    (tmp_path / "a.tif").write_bytes(header("<", place) + stream + pack(page, place))
    photo = read_photo(tmp_path / "a.tif")
    assert np.abs(photo.pixels[..., 0].astype(int) - smooth[::-1, ::-1]).max() < 12
