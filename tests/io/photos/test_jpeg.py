"""What lies behind a JPEG's picture is told."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.io.photos import read_photo

VIDEO = b"\0\0\0\x18ftypmp42" + bytes(5000)


def _jpeg(**settings: object) -> bytes:
    file = io.BytesIO()
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    # An EXIF thumbnail's end marker lies before the picture's.
    thumbnail = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0\xff\xd8\xff\xd9"
    Image.fromarray(picture).save(file, "JPEG", comment=thumbnail, **settings)
    return file.getvalue()


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize(
    ("behind", "notes"),
    [
        (b"", ()),
        (b"\0\0\r\n", ()),
        (VIDEO, ("a video (motion photo) after the image: left out",)),
        (b"SEFH trailer", ("12 bytes after the image: left out",)),
        (_jpeg(), ("another picture (such as a gain map) after the image: left out",)),
        (
            _jpeg() + VIDEO,
            ("another picture (such as a gain map) and a video (motion photo) after the image: left out",),
        ),
    ],
)
def test_what_lies_behind_the_picture_is_told(
    tmp_path: Path, settings: dict[str, object], behind: bytes, notes: tuple[str, ...]
) -> None:
    (tmp_path / "a.jpg").write_bytes(_jpeg(**settings) + behind)
    assert read_photo(tmp_path / "a.jpg").notes == notes


def test_pictures_that_mpo_names_are_told_once_and_a_video_too(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (16, 16), color) for color in ("red", "blue"))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    (told,) = read_photo(tmp_path / "a.jpg").notes
    assert told.startswith("1 more pictures")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(VIDEO)
    assert read_photo(tmp_path / "a.jpg").notes == (told, "a video (motion photo) after the image: left out")
