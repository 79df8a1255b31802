from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.errors import ImageError, WriteError
from quantface_core.io.photos import Photo, read_photo, write_photo


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("alpha", [False, True])
def test_lossless_formats_return_every_bit(tmp_path: Path, picture: np.ndarray, suffix: str, alpha: bool) -> None:
    photo = Photo(picture, picture[..., 0].copy() if alpha else None, icc=b"profile" * 30)
    write_photo(photo, tmp_path / f"a{suffix}")
    back = read_photo(tmp_path / f"a{suffix}")
    assert np.array_equal(back.pixels, picture)
    assert (back.alpha is None) if not alpha else np.array_equal(back.alpha, picture[..., 0])
    assert back.icc == photo.icc


def test_other_pixels_take_the_transparency_along(picture: np.ndarray) -> None:
    photo = Photo(picture, picture[..., 0].copy(), gray=True, icc=b"profile")
    same = photo.with_pixels(255 - picture)
    assert same.alpha is photo.alpha
    assert (same.gray, same.icc) == (True, b"profile")
    larger = photo.with_pixels(np.repeat(np.repeat(picture, 2, 0), 2, 1))
    assert larger.alpha is not None
    assert larger.alpha.shape == larger.pixels.shape[:2]
    assert larger.alpha.dtype == np.uint8
    assert Photo(picture).with_pixels(larger.pixels).alpha is None


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("alpha", [False, True])
def test_16_bits_stay_16_bits(tmp_path: Path, picture: np.ndarray, suffix: str, alpha: bool) -> None:
    deep = picture.astype(np.uint16) * 257 - 100
    write_photo(Photo(deep, deep[..., 1].copy() if alpha else None), tmp_path / f"a{suffix}")
    back = read_photo(tmp_path / f"a{suffix}")
    assert back.pixels.dtype == np.uint16
    assert np.array_equal(back.pixels, deep)
    assert (back.alpha is None) if not alpha else np.array_equal(back.alpha, deep[..., 1])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("odd", [False, True])
def test_16_bits_keep_their_profile(tmp_path: Path, photos: Path, picture: np.ndarray, suffix: str, odd: bool) -> None:
    icc = read_photo(photos / "nasa_astronaut.png").icc
    assert icc is not None
    icc, pixels = icc + b"\0" * ((len(icc) + odd) % 2), picture.astype(np.uint16) * 257
    write_photo(Photo(pixels, icc=icc), tmp_path / f"a{suffix}")
    back = read_photo(tmp_path / f"a{suffix}")
    assert back.icc == icc
    assert np.array_equal(back.pixels, pixels)


def test_a_gray_profile_stays_with_gray(tmp_path: Path, picture: np.ndarray) -> None:
    deep = np.repeat(picture[..., :1].astype(np.uint16) * 257, 3, 2)
    for name, alpha, kept in (
        ("a.png", None, b"gray's"),
        ("b.tif", None, b"gray's"),
        ("c.png", deep[..., 0], b"gray's"),
    ):
        write_photo(Photo(deep, alpha, gray=True, icc=b"gray's"), tmp_path / name)
        assert read_photo(tmp_path / name).icc == kept, name


def test_16_bit_png_keeps_camera_data(tmp_path: Path, picture: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    write_photo(Photo(picture.astype(np.uint16) * 257, exif=exif.tobytes()), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.getexif()[0x010F] == "Camera"


def test_gray_stays_gray(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture[..., 0]).save(tmp_path / "g.png")
    photo = read_photo(tmp_path / "g.png")
    assert photo.gray
    assert photo.pixels.shape == (12, 17, 3)
    for name in ("h.png", "h.jpg"):
        write_photo(photo, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.mode == "L"
    assert np.array_equal(read_photo(tmp_path / "h.png").pixels, photo.pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_every_orientation_is_applied_once(tmp_path: Path, orientation: int, deep: bool) -> None:
    """A white corner pixel ends up where a viewer that knows EXIF shows it."""
    upright = np.zeros((6, 9, 3), np.uint8)
    upright[0, 0] = 255
    stored = _store(upright, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Camera"
    if deep:
        write_photo(Photo(stored.astype(np.uint16) * 257, exif=exif.tobytes()), tmp_path / "a.png")
    else:
        Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    photo = read_photo(tmp_path / "a.png")
    assert photo.pixels.shape == upright.shape
    assert np.array_equal(photo.pixels > 0, upright > 0)
    write_photo(photo, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[0x0112] == 1
        assert image.getexif()[0x010F] == "Camera"


def _store(upright: np.ndarray, orientation: int) -> np.ndarray:
    """How a camera with this orientation would have stored an upright picture (EXIF 2.3, table 6)."""
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    return np.ascontiguousarray(stored)


def test_tiff_layout_tags_do_not_travel(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.tif")
    photo = read_photo(tmp_path / "a.tif")
    write_photo(photo, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert 273 not in image.getexif()  # StripOffsets


@pytest.mark.parametrize("mode", ["P", "CMYK", "1", "LA", "RGBA", "I;16", "F"])
def test_unusual_modes_are_read(tmp_path: Path, picture: np.ndarray, mode: str) -> None:
    image = (
        Image.fromarray(picture[..., 0].astype(np.uint16) * 257)
        if mode == "I;16"
        else Image.fromarray(picture).convert(mode)
    )
    if mode == "F":
        image = Image.fromarray(np.asarray(image) / 255)
    image.save(tmp_path / "a.tif")
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels.shape == (12, 17, 3)
    assert photo.gray == (mode in ("1", "LA", "I;16", "F"))


def test_damage_is_told_in_one_line(tmp_path: Path, photos: Path) -> None:
    whole = (photos / "usnavy_grace_hopper.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("this is text")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    png = (photos / "nasa_astronaut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(png[:5000])
    for name in ("cut.jpg", "cut.png", "text.png", "empty.png", "folder.png", "missing.png"):
        with pytest.raises(ImageError, match=name) as caught:
            read_photo(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_folder_is_told_from_what_must_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses both alike."""

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "file.png").touch()
    monkeypatch.setattr(Path, "open", refuse)
    for path, reason in ((tmp_path, "is a folder, not a picture"), (tmp_path / "file.png", "permission denied")):
        with pytest.raises(ImageError, match=reason):
            read_photo(path)


def test_an_unwritable_suffix_and_folder(tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"cannot write \.gif"):
        write_photo(Photo(picture), tmp_path / "a.gif")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="cannot write"):
        write_photo(Photo(picture), tmp_path / "file" / "a.png")


def test_a_full_disk_leaves_the_old_picture(
    tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photo(Photo(picture), tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()

    def full(self: Path, data: bytes) -> None:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WriteError, match="No space left"):
        write_photo(replace(Photo(picture), pixels=255 - picture), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
