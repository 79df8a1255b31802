"""Camera data go from file to file unchanged, except for what holds for the old picture only."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quantface_core.io.photos import Photo, exif, read_photo, write_photo
from quantface_core.io.photos.ifd import Entry, header, pack
from tests.io.photos.camera import camera, tags


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.webp", "b.tif"])
def test_camera_data_go_from_any_format_to_any(
    tmp_path: Path, picture: np.ndarray, source: str, target: str, order: Any
) -> None:
    write_photo(Photo(picture, exif=exif.upright(camera(order))), tmp_path / source)
    write_photo(read_photo(tmp_path / source), tmp_path / target)
    expected = tags(camera(order))
    kept = tags(read_photo(tmp_path / target).exif)
    # Of a TIFF's first directory only what describes the photo is taken over.
    unknown = {0xC4A5} if ".tif" in source + target else set()
    assert {t: kept.get(t) for t in expected.keys() - {0x8769, *unknown}} == {
        t: v for t, v in expected.items() if t not in {0x8769, *unknown}
    }
    with Image.open(tmp_path / target) as image:
        assert image.getexif().get_ifd(0x8769)[0x9003].startswith("2026:11:26")


def test_the_thumbnail_goes_and_the_rest_keeps_its_place() -> None:
    for order in ("<", ">"):
        blob = camera(order, orientation=6)
        after = exif.upright(b"Exif\0\0" + blob)
        assert after
        changed = [i for i in range(len(blob)) if blob[i] != after[i]]
        assert len(after) == len(blob)
        assert len(changed) <= 1 + 4
        with Image.open(io.BytesIO(_jpeg(after))) as image:
            assert image.getexif()[0x0112] == 1
            assert not image.getexif().get_ifd(1)


def _jpeg(blob: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=b"Exif\0\0" + blob)
    return file.getvalue()


def test_the_size_told_is_the_result_s(tmp_path: Path, picture: np.ndarray) -> None:
    photo = Photo(np.repeat(np.repeat(picture, 2, 0), 2, 1), exif=exif.upright(camera()))
    write_photo(photo, tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        camera_data = image.getexif().get_ifd(0x8769)
    assert (camera_data[0xA002], camera_data[0xA003]) == (64, 48)


def test_damaged_camera_data_cost_nothing_but_themselves(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fnothing")
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.pixels.shape == picture.shape
    assert photo.exif is None
    assert any("EXIF" in note for note in photo.notes)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_what_is_no_camera_data_costs_nothing_but_itself(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    Image.fromarray(picture).save(source, exif=b"Exif\0\0no exif at all")
    photo = read_photo(source)
    assert photo.exif is None
    assert photo.notes == ("camera data (EXIF) are damaged and left out",)


def test_tags_of_stored_pixels_do_not_get_into_a_tiff(tmp_path: Path, picture: np.ndarray) -> None:
    """Pillow takes a TIFF's whole directory for camera data of the JPEG that it writes."""
    data = Image.Exif()
    for tag, value in {338: 2, 339: 2, 266: 2, 254: 4, 322: 16, 50706: b"\1\4\0\0", 271: "Maker"}.items():
        data[tag] = value
    Image.fromarray(picture).save(tmp_path / "a.png", exif=data)
    assert write_photo(read_photo(tmp_path / "a.png"), tmp_path / "a.tif") == ()
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(np.asarray(image), picture)
        assert image.getexif()[271] == "Maker"
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, picture)


@pytest.mark.parametrize("maker", [True, False])
def test_camera_data_too_large_for_jpeg(tmp_path: Path, picture: np.ndarray, maker: bool) -> None:
    directory = exif.parse(camera())
    assert directory
    tag = 0x927C if maker else 0x9286
    directory.children[0x8769].entries[tag] = Entry(7, bytes(70_000))
    blob = header("<") + pack(directory, 8)
    notes = write_photo(Photo(picture, exif=blob), tmp_path / "a.jpg")
    assert any("64 kB" in note for note in notes)
    back = read_photo(tmp_path / "a.jpg")
    assert (back.exif is not None) == maker
    if maker:
        assert tags(back.exif)[0x013B] == tags(blob)[0x013B]
    for name in ("a.png", "a.webp", "a.tif"):
        assert write_photo(Photo(picture, exif=blob), tmp_path / name) == ()
        assert tags(read_photo(tmp_path / name).exif)[tag] == bytes(70_000)
