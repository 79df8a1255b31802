"""Colours that AVIF, HEIC and JPEG 2000 name where Pillow does not look."""

from __future__ import annotations

import importlib.util
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from quantface_core.io.photos import boxes, png, read_photo, write_photo

_spec = importlib.util.spec_from_file_location("profiles", Path(__file__).with_name("profiles.py"))
assert _spec
assert _spec.loader
profiles = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(profiles)

NAMED = [(12, 13), (9, 16), (9, 18)]  # Display P3, BT.2020 with PQ and with HLG
USUAL = [(1, 13), (1, 1), (1, 6), (1, 2), (2, 2)]


@pytest.fixture(scope="module")
def ramp() -> np.ndarray:
    y, x = np.mgrid[:64, :96]
    return np.stack([x * 2, y * 3, x + y], axis=2).astype(np.uint8)


def box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def nclx(primaries: int, transfer: int) -> bytes:
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, 6, 0x80))


def _avif(ramp: np.ndarray, primaries: int, transfer: int) -> bytes:
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "AVIF", quality=90)
    data = bytearray(file.getvalue())
    place = data.index(b"colrnclx") + 8
    data[place : place + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(data)


@pytest.mark.parametrize(("primaries", "transfer"), NAMED)
def test_colors_that_avif_names_stay_in_png_and_are_told_elsewhere(
    tmp_path: Path, ramp: np.ndarray, primaries: int, transfer: int
) -> None:
    (tmp_path / "a.avif").write_bytes(_avif(ramp, primaries, transfer))
    photo = read_photo(tmp_path / "a.avif")
    assert write_photo(photo, tmp_path / "b.png") == ()
    assert png.kept_chunks(tmp_path / "b.png") == ((b"cICP", bytes([primaries, transfer, 0, 1])),)
    for name in ("b.jpg", "b.webp", "b.tif"):
        assert any("cICP" in warning for warning in write_photo(photo, tmp_path / name))


@pytest.mark.parametrize(("primaries", "transfer"), USUAL)
def test_usual_colors_are_no_news(tmp_path: Path, ramp: np.ndarray, primaries: int, transfer: int) -> None:
    (tmp_path / "a.avif").write_bytes(_avif(ramp, primaries, transfer))
    assert read_photo(tmp_path / "a.avif").metadata.png == ()


def test_colors_that_heic_names(tmp_path: Path, ramp: np.ndarray) -> None:
    heif = pytest.importorskip("pillow_heif")
    if not hasattr(Image.Image, "im"):
        pytest.skip("pillow_heif is for newer Pillows")
    heif.register_heif_opener()
    settings = {"matrix_coefficients": 9, "full_range_flag": 1}
    image = Image.fromarray(ramp)
    image.save(tmp_path / "a.heic", color_primaries=9, transfer_characteristics=16, **settings)
    assert read_photo(tmp_path / "a.heic").metadata.png == ((b"cICP", bytes([9, 16, 0, 1])),)
    image.save(tmp_path / "b.heic", icc_profile=profiles.rgb())
    photo = read_photo(tmp_path / "b.heic")
    assert photo.icc == profiles.rgb()
    assert photo.metadata.png == ()


@pytest.mark.parametrize("wide", [False, True])
def test_the_colors_are_the_primary_picture_s(wide: bool) -> None:
    """A gain map's own colours may come first."""
    number = ">H" if wide else ">B"
    entries = b"".join(
        struct.pack(">IB" if wide else ">HB", item, 1) + struct.pack(number, where | (0x8000 if wide else 0x80))
        for item, where in ((1, 1), (2, 2))
    )
    ipma = box(b"ipma", bytes([wide, 0, 0, wide]), struct.pack(">I", 2), entries)
    pitm = box(b"pitm", bytes([wide, 0, 0, 0]), struct.pack(">I" if wide else ">H", 2))
    properties = box(b"iprp", box(b"ipco", nclx(9, 16), nclx(12, 13)), ipma)
    data = box(b"ftyp", b"avif\0\0\0\0") + box(b"meta", b"\0\0\0\0", pitm, properties)
    assert boxes.avif_coding(data) == (12, 13)
    for end in range(len(data)):
        assert boxes.avif_coding(data[:end]) in (None, (12, 13))


@pytest.mark.parametrize("length", [0, 1, 7, 0xFFFFFFFF])
def test_boxes_of_wrong_lengths_end_the_search(length: int) -> None:
    data = struct.pack(">I4s", length, b"free") + bytes(8) + box(b"jp2h", box(b"colr", b"\2\0\0profile"))
    assert boxes.jp2_profile(data) is None


@pytest.mark.parametrize("method", [2, 3])
def test_the_profile_of_jpeg_2000_stays(tmp_path: Path, ramp: np.ndarray, method: int) -> None:
    if not features.check("jpg_2000"):
        pytest.skip("this Pillow has no JPEG 2000")
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "JPEG2000")
    data, icc = file.getvalue(), profiles.rgb()
    old = data[data.index(b"jp2h") - 4 : data.index(b"jp2c") - 4]
    size = old[8 : old.index(b"colr") - 4]
    new = box(b"jp2h", size, box(b"colr", bytes([method, 0, 0]), icc))
    (tmp_path / "a.jp2").write_bytes(data.replace(old, new))
    photo = read_photo(tmp_path / "a.jp2")
    assert photo.icc == icc
    assert write_photo(photo, tmp_path / "b.png") == ()
    assert read_photo(tmp_path / "b.png").icc == icc
