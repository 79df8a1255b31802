"""TIFF's layouts, written by tifffile, which knows them all, and read by us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from quantface_core.errors import ImageError
from quantface_core.io.photos import read_photo, write_photo
from quantface_core.io.photos.ifd import Directory, header, pack

tifffile = pytest.importorskip("tifffile")


LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 5},
    "tiles": {"tile": (16, 32)},
    "deflate": {"compression": "zlib", "rowsperstrip": 7},
    "tiles, deflate": {"compression": "zlib", "tile": (32, 16)},
    "big": {"bigtiff": True, "rowsperstrip": 5},
    "big-endian": {"byteorder": ">", "rowsperstrip": 9},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_every_layout_of_rgb(tmp_path: Path, colors: np.ndarray, layout: str, planar: bool, depth: type) -> None:
    data = colors if depth == np.uint16 else (colors >> 8).astype(np.uint8)
    settings = {**LAYOUTS[layout], "photometric": "rgb"}
    byteorder = settings.pop("byteorder", "<")
    if planar:
        stored, settings["planarconfig"] = np.ascontiguousarray(data.transpose(2, 0, 1)), "separate"
    else:
        stored = data
    bigtiff = settings.pop("bigtiff", False)
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=bigtiff, byteorder=byteorder) as file:
        file.write(stored, **settings)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels.dtype == depth
    assert np.array_equal(photo.pixels, data)
    assert photo.alpha is None
    assert not photo.gray


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_gray_either_way_round(tmp_path: Path, colors: np.ndarray, white_is_zero: bool, depth: type) -> None:
    gray = colors[..., 2] if depth == np.uint16 else (colors[..., 2] >> 8).astype(np.uint8)
    white = np.iinfo(depth).max
    photometric = "miniswhite" if white_is_zero else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", white - gray if white_is_zero else gray, photometric=photometric)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.gray
    assert np.array_equal(photo.pixels[..., 0], gray)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("planar", [False, True])
def test_alpha_is_alpha(tmp_path: Path, colors: np.ndarray, depth: type, channels: int, planar: bool) -> None:
    data = colors if depth == np.uint16 else (colors >> 8).astype(np.uint8)
    data = np.concatenate([data[..., : channels - 1], data[..., 1:2]], axis=2)
    stored = np.ascontiguousarray(data.transpose(2, 0, 1)) if planar else data
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="rgb" if channels == 4 else "minisblack",
        planarconfig="separate" if planar else "contig",
        extrasamples=["unassalpha"],
    )
    photo = read_photo(tmp_path / "a.tif")
    assert photo.gray == (channels == 2)
    assert np.array_equal(photo.alpha, data[..., -1])
    assert np.array_equal(photo.pixels[..., 0], data[..., 0])
    write_photo(photo, tmp_path / "b.tif")
    back = read_photo(tmp_path / "b.tif")
    assert np.array_equal(back.pixels, photo.pixels)
    assert np.array_equal(back.alpha, photo.alpha)
    assert back.gray == photo.gray


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_associated_alpha_is_divided_out(tmp_path: Path, depth: type) -> None:
    white = np.iinfo(depth).max
    color = np.full((37, 53, 3), (white, white // 2, white // 5), depth)
    alpha = np.linspace(0, white, 53).round().astype(depth)[None].repeat(37, 0)
    stored = np.rint(color * (alpha / white)[..., None]).astype(depth)
    data = np.concatenate([stored, alpha[..., None]], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", extrasamples=["assocalpha"])
    photo = read_photo(tmp_path / "a.tif")
    assert np.array_equal(photo.alpha, alpha)
    solid = alpha > white // 3
    assert np.abs(photo.pixels.astype(int) - color)[solid].max() <= 3


def test_a_channel_without_a_meaning_is_told(tmp_path: Path, colors: np.ndarray) -> None:
    data = np.concatenate([colors, colors[..., :1]], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", extrasamples=["unspecified"])
    photo = read_photo(tmp_path / "a.tif")
    assert photo.alpha is None
    assert np.array_equal(photo.pixels, colors)
    assert any("left out" in note for note in photo.notes)


@pytest.mark.parametrize("codec", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_every_codec(tmp_path: Path, colors: np.ndarray, codec: str, depth: type) -> None:
    gray = colors[..., 0] if depth == np.uint16 else (colors[..., 0] >> 8).astype(np.uint8)
    try:
        Image.fromarray(gray).save(tmp_path / "a.tif", compression=codec)
    except (OSError, SystemError, ValueError):
        pytest.skip(f"Pillow's libtiff has no {codec}")
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels[..., 0], gray)


def test_lzw_of_16_bit_color_with_a_predictor(tmp_path: Path, colors: np.ndarray) -> None:
    """As scanners write it: OpenCV's writer uses LZW and horizontal differences."""
    cv2.imwrite(str(tmp_path / "a.tif"), colors[..., ::-1])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert (file.pages[0].compression, file.pages[0].predictor) == (5, 2)
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, colors)


@pytest.mark.parametrize("size", ["float16", "float32", "float64"])
@pytest.mark.parametrize("predictor", [False, True])
def test_floats_are_black_at_0_and_white_at_1(tmp_path: Path, colors: np.ndarray, size: str, predictor: bool) -> None:
    floats = (colors / 65535).astype(size)
    if predictor:
        (tmp_path / "a.tif").write_bytes(_with_float_predictor(floats))
    else:
        tifffile.imwrite(tmp_path / "a.tif", floats, photometric="rgb", compression="zlib")
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels.dtype == np.uint16
    assert np.abs(photo.pixels.astype(int) - colors).max() <= (40 if size == "float16" else 1)
    assert any("16 bits" in note for note in photo.notes)


def _with_float_predictor(floats: np.ndarray) -> bytes:
    """One strip as Adobe's technical note 3 lays it out: bytes in planes, highest first, each less its neighbour."""
    size, (height, width, channels) = floats.dtype.itemsize, floats.shape
    planes = floats.astype(floats.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8).reshape(height, -1, size)
    rows = planes.swapaxes(1, 2).reshape(height, -1, channels)
    less = rows.copy()
    less[:, 1:] -= rows[:, :-1]
    tags = Directory("<")
    shape = (
        (256, width),
        (257, height),
        (259, 1),
        (262, 2),
        (273, 8),
        (277, channels),
        (278, height),
        (279, less.size),
        (317, 3),
    )
    for tag, value in shape:
        tags.put(tag, 4, value)
    tags.put(258, 3, *[8 * size] * channels)
    tags.put(339, 3, *[3] * channels)
    place = 8 + less.size
    return header("<", place) + less.tobytes() + pack(tags, place)


def test_floats_beyond_white_and_signed_numbers_are_refused(tmp_path: Path, colors: np.ndarray) -> None:
    floats = colors.astype(np.float32)
    for data in (floats, np.where(floats > 9e9, 0, np.nan).astype(np.float32), colors.astype(np.int16)):
        tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb")
        with pytest.raises(ImageError, match=r"a\.tif: ") as told:
            read_photo(tmp_path / "a.tif")
        assert "\n" not in str(told.value)


def test_a_declared_range_is_followed(tmp_path: Path, colors: np.ndarray) -> None:
    floats = (colors / 257).astype(np.float32)  # 0 to 255
    tags = [(340, 11, 3, (0.0,) * 3, True), (341, 11, 3, (255.0,) * 3, True)]
    tifffile.imwrite(tmp_path / "a.tif", floats, photometric="rgb", extratags=tags)
    assert np.abs(read_photo(tmp_path / "a.tif").pixels.astype(int) - colors).max() <= 1


def test_32_bits_become_16(tmp_path: Path, colors: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", colors.astype(np.uint32) << 16 | 77, photometric="rgb")
    photo = read_photo(tmp_path / "a.tif")
    assert np.array_equal(photo.pixels, colors)
    assert any("32 bits become 16" in note for note in photo.notes)
