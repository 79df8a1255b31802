"""TIFF's layouts, written by tifffile, which knows them all, and read by us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from quantface_core.errors import ImageError
from quantface_core.io.photos import Pages, Photo, read_pages, read_photo, write_pages, write_photo
from quantface_core.io.photos.ifd import Directory, header, pack

tifffile = pytest.importorskip("tifffile")
H, W = 37, 53  # odd, and larger than a tile


@pytest.fixture(scope="module")
def colours() -> np.ndarray:
    """A smooth 16-bit RGB picture whose channels differ, so that swapped or repeated ones show."""
    y, x = np.mgrid[:H, :W]
    return np.stack([x * 1200, y * 1700, (x + y) * 700], axis=2).astype(np.uint16)


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
def test_every_layout_of_rgb(tmp_path: Path, colours: np.ndarray, layout: str, planar: bool, depth: type) -> None:
    data = colours if depth == np.uint16 else (colours >> 8).astype(np.uint8)
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
def test_gray_either_way_round(tmp_path: Path, colours: np.ndarray, white_is_zero: bool, depth: type) -> None:
    gray = colours[..., 2] if depth == np.uint16 else (colours[..., 2] >> 8).astype(np.uint8)
    white = np.iinfo(depth).max
    photometric = "miniswhite" if white_is_zero else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", white - gray if white_is_zero else gray, photometric=photometric)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.gray
    assert np.array_equal(photo.pixels[..., 0], gray)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("planar", [False, True])
def test_alpha_is_alpha(tmp_path: Path, colours: np.ndarray, depth: type, channels: int, planar: bool) -> None:
    data = colours if depth == np.uint16 else (colours >> 8).astype(np.uint8)
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
    colour = np.full((H, W, 3), (white, white // 2, white // 5), depth)
    alpha = np.linspace(0, white, W).round().astype(depth)[None].repeat(H, 0)
    stored = np.rint(colour * (alpha / white)[..., None]).astype(depth)
    data = np.concatenate([stored, alpha[..., None]], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", extrasamples=["assocalpha"])
    photo = read_photo(tmp_path / "a.tif")
    assert np.array_equal(photo.alpha, alpha)
    solid = alpha > white // 3
    assert np.abs(photo.pixels.astype(int) - colour)[solid].max() <= 3


def test_a_channel_without_a_meaning_is_told(tmp_path: Path, colours: np.ndarray) -> None:
    data = np.concatenate([colours, colours[..., :1]], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", extrasamples=["unspecified"])
    photo = read_photo(tmp_path / "a.tif")
    assert photo.alpha is None
    assert np.array_equal(photo.pixels, colours)
    assert any("left out" in note for note in photo.notes)


@pytest.mark.parametrize("codec", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_every_codec(tmp_path: Path, colours: np.ndarray, codec: str, depth: type) -> None:
    gray = colours[..., 0] if depth == np.uint16 else (colours[..., 0] >> 8).astype(np.uint8)
    try:
        Image.fromarray(gray).save(tmp_path / "a.tif", compression=codec)
    except (OSError, SystemError, ValueError):
        pytest.skip(f"Pillow's libtiff has no {codec}")
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels[..., 0], gray)


def test_lzw_of_16_bit_colour_with_a_predictor(tmp_path: Path, colours: np.ndarray) -> None:
    """As scanners write it: OpenCV's writer uses LZW and horizontal differences."""
    cv2.imwrite(str(tmp_path / "a.tif"), colours[..., ::-1])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert (file.pages[0].compression, file.pages[0].predictor) == (5, 2)
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, colours)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["8, none", "8, lzw", "8, jpeg", "16, none", "16, planar", "16, gray", "palette"])
def test_the_orientation_is_applied_once(tmp_path: Path, orientation: int, kind: str) -> None:
    """A bright corner is where a viewer that follows the tag shows it, and the result needs no tag."""
    upright = np.zeros((48, 80, 3), np.uint8)
    upright[:16, :16] = (200, 100, 60)
    stored = _store(upright, orientation)
    path = tmp_path / "a.tif"
    if kind.startswith("16"):
        deep = stored.astype(np.uint16) * 257
        deep = deep[..., 0] if kind == "16, gray" else deep.transpose(2, 0, 1) if kind == "16, planar" else deep
        tifffile.imwrite(
            path,
            np.ascontiguousarray(deep),
            photometric="minisblack" if kind == "16, gray" else "rgb",
            planarconfig="separate" if kind == "16, planar" else None,
            extratags=[(274, 3, 1, orientation, True)],
        )
    else:
        image = Image.fromarray(stored)
        image = image.convert("P", palette=Image.Palette.ADAPTIVE) if kind == "palette" else image
        codec = {"8, lzw": "tiff_lzw", "8, jpeg": "jpeg"}.get(kind)
        image.save(path, compression=codec, tiffinfo={274: orientation})
    photo = read_photo(path)
    assert photo.pixels.shape == upright.shape
    bright = photo.pixels[..., 0] > np.iinfo(photo.pixels.dtype).max // 3
    assert (bright == (upright[..., 0] > 0)).mean() > 0.98
    for name in ("b.tif", "b.png", "b.jpg"):
        write_photo(photo, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.getexif().get(0x0112, 1) == 1
        assert read_photo(tmp_path / name).pixels.shape == upright.shape


def _store(upright: np.ndarray, orientation: int) -> np.ndarray:
    turned = upright.swapaxes(0, 1) if orientation >= 5 else upright
    # Rows that run from the bottom and columns that run from the right (TIFF 6.0, the tag's table).
    rows = orientation in (3, 4, 7, 8) if orientation < 5 else orientation in (6, 7)
    columns = orientation in (2, 3) if orientation < 5 else orientation in (7, 8)
    return np.ascontiguousarray(turned[:: -1 if rows else 1, :: -1 if columns else 1])


@pytest.mark.parametrize("size", ["float16", "float32", "float64"])
@pytest.mark.parametrize("predictor", [False, True])
def test_floats_are_black_at_0_and_white_at_1(tmp_path: Path, colours: np.ndarray, size: str, predictor: bool) -> None:
    floats = (colours / 65535).astype(size)
    if predictor:
        (tmp_path / "a.tif").write_bytes(_with_float_predictor(floats))
    else:
        tifffile.imwrite(tmp_path / "a.tif", floats, photometric="rgb", compression="zlib")
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels.dtype == np.uint16
    assert np.abs(photo.pixels.astype(int) - colours).max() <= (40 if size == "float16" else 1)
    assert any("16 bits" in note for note in photo.notes)


def _with_float_predictor(floats: np.ndarray) -> bytes:
    """One strip as Adobe's technical note 3 lays it out: bytes in planes, highest first, each less its neighbour."""
    size, channels = floats.dtype.itemsize, floats.shape[2]
    planes = floats.astype(floats.dtype.newbyteorder(">")).reshape(H, -1).view(np.uint8).reshape(H, -1, size)
    rows = planes.swapaxes(1, 2).reshape(H, -1, channels)
    less = rows.copy()
    less[:, 1:] -= rows[:, :-1]
    tags = Directory("<")
    shape = ((256, W), (257, H), (259, 1), (262, 2), (273, 8), (277, channels), (278, H), (279, less.size), (317, 3))
    for tag, value in shape:
        tags.put(tag, 4, value)
    tags.put(258, 3, *[8 * size] * channels)
    tags.put(339, 3, *[3] * channels)
    place = 8 + less.size
    return header("<", place) + less.tobytes() + pack(tags, place)


def test_floats_beyond_white_and_signed_numbers_are_refused(tmp_path: Path, colours: np.ndarray) -> None:
    floats = colours.astype(np.float32)
    for data in (floats, np.where(floats > 9e9, 0, np.nan).astype(np.float32), colours.astype(np.int16)):
        tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb")
        with pytest.raises(ImageError, match=r"a\.tif: ") as told:
            read_photo(tmp_path / "a.tif")
        assert "\n" not in str(told.value)


def test_a_declared_range_is_followed(tmp_path: Path, colours: np.ndarray) -> None:
    floats = (colours / 257).astype(np.float32)  # 0 to 255
    tags = [(340, 11, 3, (0.0,) * 3, True), (341, 11, 3, (255.0,) * 3, True)]
    tifffile.imwrite(tmp_path / "a.tif", floats, photometric="rgb", extratags=tags)
    assert np.abs(read_photo(tmp_path / "a.tif").pixels.astype(int) - colours).max() <= 1


def test_32_bits_become_16(tmp_path: Path, colours: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", colours.astype(np.uint32) << 16 | 77, photometric="rgb")
    photo = read_photo(tmp_path / "a.tif")
    assert np.array_equal(photo.pixels, colours)
    assert any("32 bits become 16" in note for note in photo.notes)


def test_other_depths_and_raw_files_are_refused(tmp_path: Path, colours: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[0].tags[258].valueoffset
    data[place : place + 6] = b"\x0c\0" * 3
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match="12/12/12 bits"):
        read_photo(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", colours, photometric="rgb", extratags=[(50706, 1, 4, b"\1\4\0\0", True)])
    with pytest.raises(ImageError, match="raw file"):
        read_photo(tmp_path / "b.tif")


def test_jpeg_and_bilevel_inside_tiff(tmp_path: Path, colours: np.ndarray) -> None:
    eight = (colours >> 8).astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "a.tif", compression="jpeg", quality=95)
    assert np.abs(read_photo(tmp_path / "a.tif").pixels.astype(int) - eight).mean() < 4
    bits = Image.fromarray(eight[..., 0] > 99)
    for codec in ("group4", "tiff_lzw", None):
        bits.save(tmp_path / "b.tif", compression=codec)
        assert np.array_equal(read_photo(tmp_path / "b.tif").pixels[..., 0] > 0, np.asarray(bits))


@pytest.mark.parametrize("pages", [1, 3])
def test_what_we_write_others_read(tmp_path: Path, colours: np.ndarray, pages: int) -> None:
    """tifffile has its own reader; libtiff is behind Pillow."""
    photos = tuple(Photo(colours + np.uint16(i)) for i in range(pages))
    write_pages(Pages(photos), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == pages
        for i, page in enumerate(file.pages):
            assert page.photometric == 2
            assert np.array_equal(page.asarray(), colours + np.uint16(i))
    write_photo(Photo((colours >> 8).astype(np.uint8), gray=False), tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as image:
        assert np.array_equal(np.asarray(image), colours >> 8)


@pytest.mark.parametrize(("kinds", "pages"), [((1,), 1), ((0, 1), 1), ((1, 4), 1), ((4, 5, 0), 1), ((1, 1), 2)])
def test_smaller_copies_are_pages_only_where_there_is_no_other(
    tmp_path: Path, colours: np.ndarray, kinds: tuple[int, ...], pages: int
) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for kind in kinds:
            mask = kind & 4
            shown = np.zeros((H, W), bool) if mask else colours
            file.write(shown, photometric="minisblack" if mask else "rgb", subfiletype=kind)
    found = read_pages(tmp_path / "a.tif").photos
    assert len(found) == pages
    assert np.array_equal(found[0].pixels, colours)


def test_16_bit_inks_are_rounded_and_told(tmp_path: Path) -> None:
    inks = np.random.default_rng(0).integers(0, 1 << 16, (20, 30, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", inks, photometric="separated")
    tifffile.imwrite(tmp_path / "b.tif", np.rint(inks / 257).astype(np.uint8), photometric="separated")
    deep, plain = read_photo(tmp_path / "a.tif"), read_photo(tmp_path / "b.tif")
    assert np.array_equal(deep.pixels, plain.pixels)
    assert deep.notes == (*plain.notes, "16 bits a channel become 8")
