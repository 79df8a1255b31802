"""Formats that need a plugin say so, and every decoder's depth is told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image, features

from quantface_core.errors import ImageError
from quantface_core.io.photos import jxl, read_photo


@pytest.mark.parametrize(
    ("start", "advice"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pip install pillow-heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "pip install pillow-heif"),
        (b"\xff\x0a\xfa\x7f\x01\x90", "pip install pillow-jxl-plugin"),
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0", "pip install pillow-jxl-plugin"),
    ],
)
@pytest.mark.parametrize("name", ["a.heic", "a.jxl", "a.jpg"])
def test_a_missing_plugin_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes, advice: str, name: str
) -> None:
    for module in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    for opener in ("HEIF", "JXL"):
        monkeypatch.delitem(Image.OPEN, opener, raising=False)
    (tmp_path / name).write_bytes(start.ljust(400, b"\0"))
    with pytest.raises(ImageError, match=advice):
        read_photo(tmp_path / name)


def test_what_is_no_picture_names_the_formats(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"text" * 99)
    with pytest.raises(ImageError, match=r"not a picture this can read \(\.jpg"):
        read_photo(tmp_path / "a.heic")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PDF or PostScript"),
        (b"%PDF-1.7\n", "PDF or PostScript"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<!DOCTYPE html><html><head><title>photo", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "Git LFS pointer"),
        (b"", "the file is empty"),
    ],
)
def test_what_is_taken_for_a_picture_is_told_as_what_it_is(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=told) as error:
        read_photo(tmp_path / "a.jpg")
    assert "a.jpg" in str(error.value)


@pytest.mark.parametrize(("module", "name"), [("pillow_heif", "HEIF"), ("pillow_jxl", "JXL")])
def test_a_damaged_file_is_not_for_a_plugin_that_is_there(tmp_path: Path, module: str, name: str) -> None:
    pytest.importorskip(module)
    start = {"HEIF": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "JXL": b"\xff\x0a\xfa\x7f\x01\x90"}[name]
    (tmp_path / "a").write_bytes(start.ljust(400, b"\0"))
    with pytest.raises(ImageError, match="damaged") as error:
        read_photo(tmp_path / "a")
    assert "pip install" not in str(error.value)


@pytest.mark.parametrize("name", ["a.dng", "a.CR3", "a.nef"])
def test_raw_files_are_to_be_developed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"II*\0")
    with pytest.raises(ImageError, match="develop it"):
        read_photo(tmp_path / name)


def test_deeper_channels_are_told(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 600).astype(">u2").reshape(10, 20, 3)
    (tmp_path / "a.ppm").write_bytes(b"P6\n# made by hand\n20 10\n65535\n" + deep.tobytes())
    photo = read_photo(tmp_path / "a.ppm")
    assert np.abs(photo.pixels.astype(int) - (deep >> 8)).max() <= 1
    assert any("16 bits per channel are read as 8" in note for note in photo.notes)
    (tmp_path / "b.pgm").write_bytes(b"P5 20 10 65535\n" + deep[..., 0].tobytes())
    gray = read_photo(tmp_path / "b.pgm")
    assert gray.gray
    assert np.array_equal(gray.pixels[..., 0], deep[..., 0])
    assert gray.notes == ()


def test_16_bit_jpeg_2000_and_heic(tmp_path: Path) -> None:
    if not features.check("jpg_2000"):
        pytest.skip("this Pillow has no JPEG 2000")
    Image.fromarray(np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30)).save(tmp_path / "a.jp2")
    photo = read_photo(tmp_path / "a.jp2")
    assert photo.pixels.dtype == np.uint16
    assert photo.pixels.max() > 255
    assert photo.notes == ()
    heif = pytest.importorskip("pillow_heif")
    if not hasattr(Image.Image, "im"):
        pytest.skip("pillow_heif is for newer Pillows")
    deep = np.linspace(0, 65535, 64 * 64 * 3).astype(np.uint16).reshape(64, 64, 3)
    heif.encode("RGB;16", (64, 64), np.ascontiguousarray(deep).tobytes(), str(tmp_path / "a.heic"))
    assert any("read as 8" in note for note in read_photo(tmp_path / "a.heic").notes)


@pytest.mark.skipif(tuple(map(int, PIL.__version__.split(".")[:2])) < (10, 3), reason="older Pillows know no PFM")
def test_floating_point_pfm(tmp_path: Path) -> None:
    floats = np.linspace(0, 1, 200, dtype="<f4").reshape(10, 20)
    (tmp_path / "a.pfm").write_bytes(b"Pf\n20 10\n-1.0\n" + floats[::-1].tobytes())
    photo = read_photo(tmp_path / "a.pfm")
    assert np.abs(photo.pixels[..., 0] / 65535 - floats).max() < 1e-4
    (tmp_path / "b.pfm").write_bytes(b"Pf\n20 10\n-1.0\n" + (floats * 40).tobytes())
    with pytest.raises(ImageError, match="map its tones"):
        read_photo(tmp_path / "b.pfm")


def _jxl_header(*fields: tuple[int, int]) -> bytes:
    """A codestream's first bytes from (value, bits) in the order of the standard."""
    value, place = 0, 0
    for number, bits in fields:
        value |= number << place
        place += bits
    return jxl.CODESTREAM + value.to_bytes(64, "little")


_SMALL = ((1, 1), (4, 5), (1, 3))  # 40 pixels high, as wide
_LARGE = ((0, 1), (2, 2), (3999, 18), (0, 3), (1, 2), (2999, 13))  # 4000 by 3000


@pytest.mark.parametrize("size", [_SMALL, _LARGE])
@pytest.mark.parametrize(
    ("depth", "bits"),
    [
        (((1, 1),), 8),  # all default
        (((0, 1), (0, 1), (0, 1), (0, 2)), 8),
        (((0, 1), (0, 1), (0, 1), (1, 2)), 10),
        (((0, 1), (0, 1), (0, 1), (2, 2)), 12),
        (((0, 1), (0, 1), (0, 1), (3, 2), (15, 6)), 16),
        (((0, 1), (0, 1), (1, 1), (0, 2)), 32),
        (((0, 1), (1, 1), (5, 3), (0, 1), (0, 1), (0, 1), (0, 1), (2, 2)), 12),  # turned
        (((0, 1), (1, 1), (0, 3), *((1, 1), *_LARGE), (0, 1), (0, 1), (0, 1), (1, 2)), 10),  # meant for another size
        (
            ((0, 1), (1, 1), (0, 3), (0, 2), (1, 1), (0, 2), (0, 2), (2, 2), (9, 16), (0, 1), (0, 1), (1, 2)),
            10,
        ),  # moving
    ],
)
@pytest.mark.parametrize("boxed", [False, True])
def test_the_depth_of_jpeg_xl(
    size: tuple[tuple[int, int], ...], depth: tuple[tuple[int, int], ...], bits: int, boxed: bool
) -> None:
    start = _jxl_header(*size, *depth)
    container = jxl.CONTAINER + b"\0\0\0\x14ftypjxl \0\0\0\0jxl \0\0\0\0jxlc"
    assert jxl.bits_per_channel(container + start if boxed else start) == bits


def test_jpeg_xl_of_16_bits_is_read_as_such_where_its_plugin_does(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    deep = np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30)
    try:
        Image.fromarray(deep).save(tmp_path / "a.jxl", lossless=True)
    except NotImplementedError:
        pytest.skip("this plugin writes no 16 bits")
    photo = read_photo(tmp_path / "a.jxl")
    assert np.array_equal(photo.pixels[..., 0], deep)
    assert photo.notes == ()
