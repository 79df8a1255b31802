"""Colours mean afterwards what they meant before."""

from __future__ import annotations

import importlib.util
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from quantface_core.io.photos import Photo, png, read_photo, write_photo

_spec = importlib.util.spec_from_file_location("profiles", Path(__file__).with_name("profiles.py"))
assert _spec
assert _spec.loader
profiles = importlib.util.module_from_spec(_spec)
sys.modules["profiles"] = profiles
_spec.loader.exec_module(profiles)


@pytest.fixture(scope="module")
def ramp() -> np.ndarray:
    y, x = np.mgrid[:40, :60]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8)


def shown(image: Image.Image) -> np.ndarray:
    """What a colour-managed viewer shows: sRGB by the file's profile."""
    icc = image.info.get("icc_profile")
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc)) if icc else ImageCms.createProfile("sRGB")
    image = image.convert("RGB") if image.mode not in ("L", "RGB", "CMYK") else image
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = 0x2000  # black point compensation; older Pillows have no name for it
    target = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, source, target, renderingIntent=intent, outputMode="RGB", flags=flags)
    return np.asarray(converted).astype(int)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_goes_through_its_profile(tmp_path: Path, ramp: np.ndarray, suffix: str) -> None:
    image = Image.fromarray(ramp).convert("CMYK")
    settings = {"quality": 100} if suffix == ".jpg" else {}
    image.save(tmp_path / f"a{suffix}", icc_profile=profiles.cmyk(), **settings)
    with Image.open(tmp_path / f"a{suffix}") as opened:
        expected = shown(opened)
        plain = np.asarray(opened.convert("RGB")).astype(int)
    photo = read_photo(tmp_path / f"a{suffix}")
    assert np.abs(photo.pixels - expected).max() <= 1
    assert np.abs(plain - expected).max() > 20, "a profile that changes nothing proves nothing"
    assert photo.icc is None
    assert any("through its profile" in note for note in photo.notes)


def test_16_bit_cmyk_and_cmyk_without_a_profile(tmp_path: Path, ramp: np.ndarray) -> None:
    tifffile = pytest.importorskip("tifffile")
    inks = np.asarray(Image.fromarray(ramp).convert("CMYK"))
    tifffile.imwrite(
        tmp_path / "a.tif", inks.astype(np.uint16) * 257, photometric="separated", iccprofile=profiles.cmyk()
    )
    Image.fromarray(inks, "CMYK").save(tmp_path / "b.tif", icc_profile=profiles.cmyk())
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, read_photo(tmp_path / "b.tif").pixels)
    Image.fromarray(inks, "CMYK").save(tmp_path / "c.tif")
    photo = read_photo(tmp_path / "c.tif")
    assert np.array_equal(photo.pixels, np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")))
    assert any("no CMYK profile" in note for note in photo.notes)


def test_lab_is_converted(tmp_path: Path, ramp: np.ndarray) -> None:
    lab = ImageCms.profileToProfile(
        Image.fromarray(ramp), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab.save(tmp_path / "a.tif")
    assert np.abs(read_photo(tmp_path / "a.tif").pixels.astype(int) - ramp).mean() < 4


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
@pytest.mark.parametrize("mode", ["RGB", "P", "16"])
def test_an_rgb_profile_stays(tmp_path: Path, ramp: np.ndarray, name: str, mode: str) -> None:
    icc = profiles.rgb()
    if mode == "16":
        write_photo(Photo(ramp.astype(np.uint16) * 257, icc=icc), tmp_path / "in.png")
    else:
        image = Image.fromarray(ramp)
        image = image.quantize(64) if mode == "P" else image
        image.save(tmp_path / "in.png", icc_profile=icc)
    photo = read_photo(tmp_path / "in.png")
    write_photo(photo, tmp_path / name)
    back = read_photo(tmp_path / name)
    assert photo.icc == back.icc == icc
    with Image.open(tmp_path / name) as image:
        assert image.info["icc_profile"] == icc


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_a_gray_profile_stays_or_is_applied(
    tmp_path: Path, ramp: np.ndarray, name: str, alpha: bool, depth: int
) -> None:
    gray = ramp[..., :1].repeat(3, axis=2).astype(np.uint8 if depth == 8 else np.uint16) * (1 if depth == 8 else 257)
    photo = Photo(gray, gray[..., 0].copy() if alpha else None, gray=True, icc=profiles.gray())
    notes = write_photo(photo, tmp_path / name)
    if (name, alpha, depth) == ("a.tif", True, 16):
        assert read_photo(tmp_path / name).icc == profiles.gray()  # Pillow knows no such TIFF
        return
    with Image.open(tmp_path / name) as image:
        if name == "a.webp":
            assert image.info.get("icc_profile") is None
            expected = shown(_tagged(ramp[..., 0], profiles.gray()))
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - expected).max() <= 1
            assert any("gray" in note for note in notes)
        else:
            assert image.info["icc_profile"] == profiles.gray()
    assert read_photo(tmp_path / name).gray == (name != "a.webp")


def test_a_gray_profile_that_cannot_be_applied_is_left_out_and_told(tmp_path: Path, ramp: np.ndarray) -> None:
    gray = ramp[..., :1].repeat(3, axis=2).astype(np.uint8)
    for icc in (profiles.gray()[:128], profiles.cmyk()):  # a header without its curve; of other channels
        warnings = write_photo(Photo(gray, gray=True, icc=icc), tmp_path / "a.webp")
        with Image.open(tmp_path / "a.webp") as image:
            assert image.info.get("icc_profile") is None
            assert np.array_equal(np.asarray(image.convert("RGB")), gray)
        assert len(warnings) == 1
        assert "gray colour profile is left out" in warnings[0]


def _tagged(gray: np.ndarray, icc: bytes) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(gray))
    image.info["icc_profile"] = icc
    return image


def test_a_profile_of_other_channels_is_left_out_and_told(tmp_path: Path, ramp: np.ndarray) -> None:
    for image in (Image.fromarray(ramp), Image.fromarray(ramp[..., 0])):
        image.save(tmp_path / "a.jpg", icc_profile=profiles.cmyk())
        photo = read_photo(tmp_path / "a.jpg")
        assert photo.icc is None
        assert any("a CMYK profile" in note for note in photo.notes)


MEANING = {
    b"gAMA": struct.pack(">I", 100_000),
    b"cHRM": struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600),
    b"cICP": bytes([9, 16, 0, 1]),
}


@pytest.mark.parametrize("depth", [8, 16])
def test_what_png_says_of_its_colors_stays_in_png(tmp_path: Path, ramp: np.ndarray, depth: int) -> None:
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "PNG")
    encoded = file.getvalue() if depth == 8 else png.encode(ramp.astype(np.uint16) * 257)
    (tmp_path / "a.png").write_bytes(png.with_chunks(encoded, MEANING.items()))
    photo = read_photo(tmp_path / "a.png")
    assert write_photo(photo, tmp_path / "b.png") == ()
    assert dict(png.kept_chunks(tmp_path / "b.png")) == MEANING
    for name in ("b.jpg", "b.webp", "b.tif"):
        assert any("cHRM, cICP, gAMA" in note for note in write_photo(photo, tmp_path / name))


def test_what_means_srgb_is_no_news(tmp_path: Path, ramp: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "PNG")
    usual = [(b"gAMA", struct.pack(">I", 45455)), (b"sRGB", b"\0")]
    (tmp_path / "a.png").write_bytes(png.with_chunks(file.getvalue(), usual))
    assert write_photo(read_photo(tmp_path / "a.png"), tmp_path / "b.jpg") == ()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_gray_png_keeps_its_one_clear_color(tmp_path: Path, bits: int) -> None:
    """Made by hand: a ramp of all values in which one is transparent by tRNS."""
    values = np.arange(1 << min(bits, 8), dtype=np.uint32)
    row = values if bits < 16 else values * 257
    raw = row.astype(">u2").tobytes() if bits == 16 else _bits(row, bits)
    clear = int(row[len(row) // 2])
    head = struct.pack(">IIBBBBB", len(row), 1, bits, 0, 0, 0, 0)
    chunks = [
        (b"IHDR", head),
        (b"tRNS", struct.pack(">H", clear)),
        (b"IDAT", zlib.compress(b"\0" + raw)),
        (b"IEND", b""),
    ]
    (tmp_path / "a.png").write_bytes(png.SIGNATURE + b"".join(png.packed(c) for c in chunks))
    photo = read_photo(tmp_path / "a.png")
    white = np.iinfo(photo.pixels.dtype).max
    assert photo.gray
    assert np.array_equal(photo.alpha[0] == 0, row == clear)
    assert np.array_equal(photo.pixels[0, :, 0], np.rint(row * (white / row[-1])))
    write_photo(photo, tmp_path / "b.png")
    back = read_photo(tmp_path / "b.png")
    assert back.gray
    assert np.array_equal(back.alpha, photo.alpha)
    assert np.array_equal(back.pixels, photo.pixels)


def _bits(row: np.ndarray, bits: int) -> bytes:
    return np.packbits((row[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).ravel()).tobytes()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_is_what_others_read(tmp_path: Path, ramp: np.ndarray, channels: int) -> None:
    import cv2

    deep = np.concatenate([ramp.astype(np.uint16) * 251, ramp[..., :1].astype(np.uint16) * 97], axis=2)[..., :channels]
    (tmp_path / "a.png").write_bytes(png.encode(deep))
    seen = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(seen[..., 0] if channels == 2 else seen.reshape(deep.shape), _bgr(deep))
    photo = read_photo(tmp_path / "a.png")
    assert photo.gray == (channels < 3)
    assert np.array_equal(photo.pixels[..., 0], deep[..., 0])
    if channels in (2, 4):
        assert np.array_equal(photo.alpha, deep[..., -1])


def _bgr(deep: np.ndarray) -> np.ndarray:
    if deep.shape[2] == 2:
        return deep[..., 0]
    return deep[..., [2, 1, 0, 3][: deep.shape[2]]] if deep.shape[2] > 2 else deep
