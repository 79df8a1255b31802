"""Every orientation is applied once, also where it is easily followed twice, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from quantface_core.io.photos import exif, png, read_photo, write_photo
from quantface_core.io.photos.ifd import Directory, Entry, header, pack
from tests.io.photos.camera import camera, tags

XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


@pytest.fixture(scope="module")
def stored() -> np.ndarray:
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[:8, :8] = (250, 200, 60)
    return picture


def _save_with_raw_exif(path: Path, picture: np.ndarray, lines: str) -> None:
    """PNG as ImageMagick writes camera data."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(lines) // 2:8}\n{lines}\n", zip=True)
    info.add_text("Title", "kept")
    Image.fromarray(picture).save(path, pnginfo=info)


@pytest.mark.parametrize("target", ["b.png", "b.jpg", "b.tif", "b.webp"])
def test_camera_data_in_text_of_png_turn_it_once(tmp_path: Path, stored: np.ndarray, target: str) -> None:
    directory = Directory("<")
    directory.put(exif.ORIENTATION, 3, 6)
    directory.entries[0x013B] = Entry(2, b"somebody\0")
    blob = (exif.PREFIX + header("<") + pack(directory, 8)).hex()
    wrapped = "\n".join(blob[i : i + 72] for i in range(0, len(blob), 72))
    _save_with_raw_exif(tmp_path / "a.png", stored, wrapped)
    photo = read_photo(tmp_path / "a.png")
    assert np.array_equal(photo.pixels, np.rot90(stored, -1))
    assert [content.split(b"\0")[0] for kind, content in photo.metadata.png if kind in png.TEXT] == [b"Title"]
    write_photo(photo, tmp_path / target)
    back = read_photo(tmp_path / target)
    assert back.pixels.shape == photo.pixels.shape
    kept = exif.parse(back.exif or b"")
    assert kept
    assert exif.orientation(kept) == 1
    assert kept.entries[0x013B].data == b"somebody\0"


def test_damaged_camera_data_in_text_of_png_cost_nothing_but_themselves(tmp_path: Path, stored: np.ndarray) -> None:
    _save_with_raw_exif(tmp_path / "a.png", stored, "no hexadecimal")
    photo = read_photo(tmp_path / "a.png")
    assert np.array_equal(photo.pixels, stored)
    assert photo.exif is None
    assert photo.notes == ("camera data (EXIF) are damaged and left out",)


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("tag", [None, 1, 3])
def test_tiff_turns_as_xmp_says_where_its_tag_does_not(
    tmp_path: Path, stored: np.ndarray, palette: bool, tag: int | None
) -> None:
    image = Image.fromarray(stored)
    image = image.quantize(4) if palette else image
    tags = {700: XMP} if tag is None else {700: XMP, exif.ORIENTATION: tag}
    image.save(tmp_path / "a.tif", tiffinfo=tags, compression="tiff_lzw")
    photo = read_photo(tmp_path / "a.tif")
    quarters = {None: -1, 1: 0, 3: 2}[tag]
    assert np.array_equal(photo.pixels[..., 0] > 120, np.rot90(stored[..., 0] > 120, quarters))
    assert photo.metadata.xmp == XMP.replace(b'"6"', b'"1"')


def _heif(picture: Image.Image, path: Path, blob: bytes) -> None:
    heif = pytest.importorskip("pillow_heif")
    if not hasattr(Image.Image, "im"):
        pytest.skip("pillow_heif is for newer Pillows")
    heif.register_heif_opener()
    picture.save(path, format="HEIF", exif=blob, quality=90)


def _jxl(picture: Image.Image, path: Path, blob: bytes) -> None:
    pytest.importorskip("pillow_jxl")
    picture.save(path, exif=blob)


def _pillow(picture: Image.Image, path: Path, blob: bytes) -> None:
    if path.suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    picture.save(path, exif=blob)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.jpg", _pillow),
        ("a.png", _pillow),
        ("a.webp", _pillow),
        ("a.avif", _pillow),
        ("a.heic", _heif),
        ("a.jxl", _jxl),
    ],
)
def test_every_format_is_turned_once(tmp_path: Path, name: str, save: Any, orientation: int) -> None:
    upright = np.zeros((48, 80, 3), np.uint8)
    upright[:16, :16] = (240, 200, 60)
    turn = {1: 0, 2: 0, 3: 2, 4: 0, 5: 1, 6: 1, 7: 1, 8: 3}[orientation]
    stored = np.rot90(upright, turn)
    mirrored = {2: stored[:, ::-1], 4: stored[::-1], 5: stored[::-1], 7: np.rot90(upright, 1)[:, ::-1]}
    stored = np.ascontiguousarray(mirrored.get(orientation, stored))
    save(Image.fromarray(stored), tmp_path / name, b"Exif\0\0" + camera(orientation=orientation))
    photo = read_photo(tmp_path / name)
    assert photo.pixels.shape == upright.shape
    assert ((photo.pixels[..., 0] > 120) == (upright[..., 0] > 0)).mean() > 0.98
    write_photo(photo, tmp_path / "b.png")
    back = read_photo(tmp_path / "b.png")
    assert np.array_equal(back.pixels, photo.pixels)
    assert photo.exif
    kept = exif.parse(photo.exif)
    assert kept
    assert exif.orientation(kept) == 1
    if name != "a.avif":  # whose writer, Pillow's, puts the camera data anew
        assert tags(photo.exif)[0x013B].startswith("Jürgen".encode())
