"""Photos as bytes: what a file of the same bytes gives and gets."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantface_core.errors import ImageError
from quantface_core.io.photos import Photo, decode_photo, encode_photo, read_photo, write_photo


@pytest.mark.parametrize("name", ["usnavy_grace_hopper.jpg", "nasa_astronaut.png"])
def test_bytes_are_read_as_their_file(photos: Path, name: str) -> None:
    read, decoded = read_photo(photos / name), decode_photo((photos / name).read_bytes())
    assert np.array_equal(decoded.pixels, read.pixels)
    assert (decoded.exif, decoded.icc, decoded.metadata) == (read.exif, read.icc, read.metadata)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_bytes_are_those_that_a_file_gets(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (9, 11, 3), np.uint16)
    photo, path = Photo(pixels, pixels[..., 0]), tmp_path / f"a{suffix}"
    told = write_photo(photo, path)
    assert encode_photo(photo, suffix) == (path.read_bytes(), told)
    assert np.array_equal(decode_photo(bytearray(path.read_bytes())).pixels, read_photo(path).pixels)
    every_second = memoryview(np.repeat(np.frombuffer(path.read_bytes(), np.uint8), 2))[::2]
    assert np.array_equal(decode_photo(every_second).pixels, read_photo(path).pixels)


@pytest.mark.parametrize("content", [b"", b"no picture", "text", None, Path("photo.jpg")])
def test_what_is_no_picture_is_told_without_a_files_name(content: Any) -> None:
    with pytest.raises(ImageError) as caught:
        decode_photo(content)
    assert tempfile.gettempdir() not in str(caught.value)


def test_a_format_that_cannot_be_written_is_told() -> None:
    with pytest.raises(ImageError, match=r"^cannot write \.gif; use "):
        encode_photo(Photo(np.zeros((4, 4, 3), np.uint8)), ".gif")


@pytest.mark.parametrize("suffix", [None, 5, Path("photo.png")])
def test_a_suffix_of_another_kind_is_named(suffix: Any) -> None:
    with pytest.raises(ImageError, match=r"^a suffix is text"):
        encode_photo(Photo(np.zeros((4, 4, 3), np.uint8)), suffix)
