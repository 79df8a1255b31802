"""What a file says about all its frames is read once."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.io.photos import png, read_pages
from tests.io.photos.camera import camera

COLORS = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]


def _animation(path: Path) -> None:
    first, *rest = (Image.new("RGB", (8, 4), color) for color in COLORS)
    exif = camera(orientation=6)
    first.save(path, save_all=True, append_images=rest, duration=40, exif=exif, lossless=True)


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_every_frame_is_turned_and_says_what_the_file_says(tmp_path: Path, name: str) -> None:
    _animation(tmp_path / name)
    frames = read_pages(tmp_path / name).photos
    assert [tuple(frame.pixels[0, 0]) for frame in frames] == COLORS
    assert {frame.pixels.shape for frame in frames} == {(8, 4, 3)}
    assert frames[0].exif is not None
    assert all(frame.exif is frames[0].exif and frame.metadata is frames[0].metadata for frame in frames)


def test_a_file_s_chunks_are_searched_as_often_for_many_frames_as_for_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each frame is quadratic: every search passes all frames."""
    searches, search = [], png.chunks
    monkeypatch.setattr(png, "chunks", lambda file: searches.append(file) or search(file))
    counts = []
    for count in (2, 20):
        frames = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(count)]
        frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
        searches.clear()
        assert len(read_pages(tmp_path / "a.png").photos) == count
        counts.append(len(searches))
    assert counts[0] == counts[1]


def test_a_transparent_gray_of_few_bits_is_the_same_in_every_frame(tmp_path: Path) -> None:
    """Pillow leaves it as it is stored, where the pixels are scaled to 8 bits."""
    rows = zlib.compress(bytes([0, 0b00011011]))  # a row of the four grays
    control = [struct.pack(">IIIIIHHBB", number, 4, 1, 0, 0, 1, 25, 0, 0) for number in (0, 1)]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0)), (b"acTL", struct.pack(">II", 2, 0))]
    chunks += [(b"tRNS", struct.pack(">H", 1)), (b"fcTL", control[0]), (b"IDAT", rows)]
    chunks += [(b"fcTL", control[1]), (b"fdAT", struct.pack(">I", 2) + rows), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(png.SIGNATURE + b"".join(png.packed(chunk) for chunk in chunks))
    frames = read_pages(tmp_path / "a.png").photos
    assert len(frames) == 2
    for frame in frames:
        assert frame.alpha is not None
        assert frame.alpha.tolist() == [[255, 0, 255, 255]]
        assert np.array_equal(frame.pixels[0, :, 0], [0, 85, 170, 255])
