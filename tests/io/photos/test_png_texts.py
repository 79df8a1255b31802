"""PNG texts and profiles larger than Pillow accepts."""

from __future__ import annotations

import io
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from quantface_core.errors import ImageError
from quantface_core.io.photos import png, png_texts, read_photo, write_photo
from tests.io.photos.camera import camera

LARGE = random.Random(0).randbytes(3 << 18).hex().encode()  # 1.5 MB, which hardly shrinks
PROFILE = b"\0" * 16 + b"RGB " + LARGE
RAW = b"\nexif\n%8d\n%s\n" % (len(camera()) + len(LARGE), camera().hex().encode() + LARGE)


def _png(path: Path, pixels: np.ndarray, *chunks: png.Chunk, behind: bool = False) -> None:
    file = io.BytesIO()
    if pixels.dtype == np.uint16:
        file.write(png.encode(pixels))
    else:
        Image.fromarray(pixels).save(file, "PNG")
    whole = file.getvalue()
    added = b"".join(png.packed(chunk) for chunk in chunks)
    path.write_bytes(whole[:-12] + added + whole[-12:] if behind else png.with_chunks(whole, chunks))


def _compressed(key: bytes, text: bytes) -> png.Chunk:
    return b"iTXt", key + b"\0\1\0\0\0" + zlib.compress(text)


@pytest.fixture(params=[8, 16])
def pixels(request: pytest.FixtureRequest, picture: np.ndarray) -> np.ndarray:
    return picture if request.param == 8 else picture.astype(np.uint16) * 257


@pytest.mark.parametrize("behind", [False, True])
def test_a_long_text_stays_byte_for_byte(tmp_path: Path, pixels: np.ndarray, behind: bool) -> None:
    text = (b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(LARGE))
    _png(tmp_path / "a.png", pixels, text, behind=behind)
    photo = read_photo(tmp_path / "a.png")
    assert np.array_equal(photo.pixels, pixels)
    assert write_photo(photo, tmp_path / "b.png") == ()
    assert png.kept_chunks(tmp_path / "b.png") == (text,)
    assert np.array_equal(read_photo(tmp_path / "b.png").pixels, pixels)


def test_profile_xmp_and_camera_data_are_kept(tmp_path: Path, pixels: np.ndarray) -> None:
    chunks = [png.profile_chunk(PROFILE), _compressed(png.XMP_KEY, LARGE)]
    chunks += [(b"zTXt", png.RAW_EXIF.encode() + b"\0\0" + zlib.compress(RAW)), (b"tEXt", b"prompt\0a portrait")]
    _png(tmp_path / "a.png", pixels, *chunks)
    photo = read_photo(tmp_path / "a.png")
    assert photo.icc == PROFILE
    assert photo.metadata.xmp == LARGE
    assert photo.exif is not None
    assert photo.exif.startswith(camera()[:8])
    assert photo.metadata.png == (chunks[-1],)
    assert photo.notes == ()
    write_photo(photo, tmp_path / "b.png")
    back = read_photo(tmp_path / "b.png")
    assert (back.icc, back.metadata, back.exif) == (photo.icc, photo.metadata, photo.exif)


def test_a_host_that_reads_cut_files_does_not_cost_the_profile(
    tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    _png(tmp_path / "a.png", picture, png.profile_chunk(PROFILE))
    assert read_photo(tmp_path / "a.png").icc == PROFILE


def test_many_texts_are_read(tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 5000)
    texts = [(b"tEXt", b"text %d\0" % i + b"x" * 1000) for i in range(6)]
    _png(tmp_path / "a.png", picture, *texts, png.text_chunk(png.XMP_KEY, b"<xmp>"))
    photo = read_photo(tmp_path / "a.png")
    assert photo.metadata.png == tuple(texts)
    assert photo.metadata.xmp == b"<xmp>"


def test_frames_of_an_animation_are_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 4), (0, i, 0)) for i in (9, 99)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    data = png.with_chunks((tmp_path / "a.png").read_bytes(), [_compressed(b"prompt", LARGE)])
    (tmp_path / "a.png").write_bytes(data)
    assert "only the first of 2" in read_photo(tmp_path / "a.png").notes[0]


def test_a_damaged_text_does_not_cost_the_picture(tmp_path: Path, picture: np.ndarray) -> None:
    _png(tmp_path / "a.png", picture, (b"zTXt", b"Comment\0\0no zlib"), _compressed(png.XMP_KEY, LARGE))
    photo = read_photo(tmp_path / "a.png")
    assert np.array_equal(photo.pixels, picture)
    assert photo.metadata.xmp == LARGE


def test_what_unpacks_without_end_is_refused(
    tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png_texts, "_MOST_BYTES", 2 << 20)
    _png(tmp_path / "a.png", picture, png.profile_chunk(b"\0" * (3 << 20)))
    with pytest.raises(ImageError, match=r"a\.png: its colour profile .* more than 2 MB") as caught:
        read_photo(tmp_path / "a.png")
    assert "damaged" not in str(caught.value)


def test_files_that_pillow_reads_are_left_to_it(tmp_path: Path, picture: np.ndarray) -> None:
    most = PngImagePlugin.MAX_TEXT_CHUNK
    _png(tmp_path / "a.png", picture, _compressed(b"prompt", b"x" * (most - 1)), png.text_chunk(b"long", LARGE))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(png.SIGNATURE + b"\xff\xff\xff\xffzTXt")
    for name in ("a.png", "text.png"):
        assert png_texts.without_texts(tmp_path / name) is None
    with pytest.raises(ImageError, match="damaged"):
        read_photo(tmp_path / "cut.png")
