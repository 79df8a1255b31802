"""Films whose frames are numbered images in a folder."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("av")

from quantface_core.errors import UsageError, WriteError
from quantface_core.io.video import FilmReader
from quantface_core.options import RestoreOptions
from quantface_core.pipelines import film_sink
from quantface_core.pipelines.callbacks import PipelineCallbacks
from quantface_core.pipelines.film import restore_film
from tests.pipelines.films import decoded, pictures, request, small, stop_after


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)


def test_enlarged_frames_keep_their_transparency(tmp_path: Path) -> None:
    folder, double = tmp_path / "in", RestoreOptions(strength=1.0, color="none", upscale=2)
    folder.mkdir()
    alpha = np.repeat(np.uint8([[0, 255]]), 63, axis=1).repeat(95, axis=0)
    for number, pixels in enumerate(pictures(3)):
        cv2.imwrite(str(folder / f"f_{number}.png"), np.dstack([pixels[:95, :126, ::-1], alpha]))
    result = restore_film(request(folder, tmp_path / "out", options=double))
    made = cv2.imread(str(tmp_path / "out" / "f_1.png"), cv2.IMREAD_UNCHANGED)
    assert made.shape == (190, 252, 4)
    assert (result.width, result.height, result.warnings) == (252, 190, ())
    assert made[:, :124, 3].max() == 0
    assert made[:, 128:, 3].min() == 255
    result = restore_film(request(folder, tmp_path / "out.mp4", options=double))
    assert decoded(tmp_path / "out.mp4")[0].shape[1::-1] == (result.width, result.height) == (252, 190)
    assert result.warnings == ("transparency is left out",)
    result = restore_film(request(folder, tmp_path / "odd.mp4", codec="h264"))
    assert decoded(tmp_path / "odd.mp4")[0].shape[1::-1] == (result.width, result.height)


def test_a_folder_of_numbered_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, pixels in enumerate(pictures(14)):
        cv2.imwrite(str(folder / f"f_{number + 8}.png"), pixels[..., ::-1])
    (folder / "notes.txt").write_text("no frame")
    (folder / "._f_8.png").write_bytes(b"macOS's")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    result = restore_film(request(folder, whole))
    assert result.frames == 14
    with pytest.raises(KeyboardInterrupt):
        restore_film(request(folder, stopped), stop_after(11))
    restore_film(request(folder, stopped, resume=True))
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(f"f_{n + 8}.png" for n in range(14))
    assert names == sorted(path.name for path in stopped.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (stopped / name).read_bytes()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    restore_film(request(folder, Path(".")))
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == names
    restore_film(request(folder, tmp_path / "out.mp4", rate=Fraction(10)))
    shown = decoded(tmp_path / "out.mp4")
    assert len(shown) == 14
    assert FilmReader(tmp_path / "out.mp4").info.rate == 10
    picture = cv2.imread(str(whole / "f_10.png"))[..., ::-1]
    assert np.abs(shown[2] - picture).mean() < 4
    shutil.move(folder / "f_10.png", stopped / "f_10.png")
    (folder / "f_10.png").symlink_to(stopped / "f_10.png")
    with pytest.raises(UsageError, match="codec and crf are for films"):
        restore_film(request(folder, tmp_path / "none", crf=20))
    with pytest.raises(UsageError, match=r"f_10\.png would overwrite a source image"):
        restore_film(request(folder, stopped))
    shutil.copy(folder / "f_10.png", folder / "f_10.ppm")
    with pytest.raises(UsageError, match="results of 2 pictures would be called f_10"):
        restore_film(request(folder, tmp_path / "none"))
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(UsageError, match="end in a number"):
        restore_film(request(folder, tmp_path / "none.mp4"))


def test_a_first_picture_that_cannot_be_written_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for number, pixels in enumerate(pictures(3)):
        cv2.imwrite(str(tmp_path / "in" / f"f_{number}.png"), pixels[..., ::-1])

    def full(*_: Any) -> None:
        raise WriteError("the disk is full")

    monkeypatch.setattr(film_sink, "write_numbered", full)
    told: list[str] = []
    with pytest.raises(WriteError, match="the disk is full"):
        restore_film(request(tmp_path / "in", tmp_path / "out"), PipelineCallbacks(notify=told.append))
    assert not told
    assert not (tmp_path / "out").exists()
