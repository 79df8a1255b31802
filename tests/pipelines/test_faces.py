"""Faces from folders as people have them: nested, with files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantface_core.errors import ImageError, UsageError
from quantface_core.pipelines.callbacks import PipelineCallbacks
from quantface_core.pipelines.faces import FaceSource, load_faces


def save(path: Path, value: int, size: tuple[int, int] = (64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def levels(folder: Path, notices: list[str] | None = None) -> list[int]:
    """The brightness of each face of a folder, and what was said about it."""
    notify = PipelineCallbacks(notify=(notices if notices is not None else []).append)
    faces = load_faces(FaceSource(10, folder=folder), 64, notify)
    return [round(float(face.mean() + 1) * 127.5) for face in faces]


def test_a_folder_of_subfolders_is_taken_as_a_whole(tmp_path: Path) -> None:
    """As FFHQ comes: a thousand faces in each."""
    save(tmp_path / "00000" / "a.png", 10)
    save(tmp_path / "01000" / "b.png", 20)
    assert levels(tmp_path) == [10, 20]
    save(tmp_path / "c.png", 30)  # a folder with faces of its own is those alone
    assert levels(tmp_path) == [30]
    (tmp_path / "none" / "inner").mkdir(parents=True)
    with pytest.raises(UsageError, match="no photos found"):
        levels(tmp_path / "none")


def test_an_image_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 10)
    (tmp_path / "b.png").write_bytes(b"no image")
    save(tmp_path / "c.png", 20)
    notices: list[str] = []
    assert levels(tmp_path, notices) == [10, 20]
    assert "b.png" in notices[0]
    assert notices[0].endswith("left out")
    assert notices[1] == f"{tmp_path}: 2 faces"
    save(tmp_path / "d.png", 30, (64, 128))  # a photo, no crop: the user may have forgotten an option
    with pytest.raises(ImageError, match="turn on find_faces"):
        levels(tmp_path)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "I;16"])
def test_any_mode_is_rgb(tmp_path: Path, mode: str) -> None:
    white = Image.new("RGB", (64, 64), "white")
    deep = Image.fromarray(np.full((64, 64), 65535, np.uint16))
    image = deep if mode == "I;16" else white.convert(mode)
    image.save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    assert levels(tmp_path) == [255]
