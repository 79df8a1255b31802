"""`quantface restore` of films: the options, and what is no film."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from quantface_core.cli.film import _rate, _seconds
from quantface_core.cli.main import main
from quantface_core.errors import UsageError
from quantface_core.io.video import FilmReader
from quantface_core.pipelines import film, film_request
from tests.io.video.made import make
from tests.pipelines.films import Blobs, pictures
from tests.stages.flicker import Flicker


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "load_for", lambda _: Flicker())
    monkeypatch.setattr(film, "film_detector", Blobs)


def test_times_are_read() -> None:
    assert [_seconds(text) for text in ("80", "1:20", "0:01:20.5")] == [80, 80, Fraction(161, 2)]
    for text in ("", "1:2:3:4", "1:-3", "soon", "1/0", "1e999999999", "9" * 5000):
        with pytest.raises(ArgumentTypeError):
            _seconds(text)


def test_rates_are_read() -> None:
    assert [_rate(text) for text in ("25", "30000/1001", "0.5")] == [25, Fraction(30000, 1001), Fraction(1, 2)]
    for text in ("0", "-3", "1/0", "1e999999999", "nan", "fast"):
        with pytest.raises(ArgumentTypeError):
            _rate(text)


@pytest.mark.usefixtures("instant")
def test_a_film_and_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, report = tmp_path / "film.mp4", tmp_path / "report.json"
    make(source, size=(128, 96), pictures=pictures(12), steps=(512,) * 12)
    command = ["restore", str(source), "--strength", "1", "--color", "none", "--from", "0.08", "--to", "0:0.4"]
    assert main([*command, "-o", str(tmp_path / "out"), "--json", str(report), "--crf", "20"]) == 0
    assert len(list(FilmReader(tmp_path / "out" / "film.mp4").frames())) == 8
    whole = json.loads(report.read_text())
    told = whole["film"]
    assert whole["finished"]
    assert told["frames"] == 8
    assert [track["shot"] for track in told["tracks"]] == [0, 1]
    error = capsys.readouterr().err
    assert f"wrote 8 frames into {tmp_path / 'out' / 'film.mp4'}, 2 of 2 faces restored" in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("instant")
@pytest.mark.parametrize(
    ("frames", "options", "told"),
    [
        (
            [np.full((96, 128, 3), 120, np.uint8)] * 4,
            [],
            "no face found: a lower --min-size or --min-confidence may find some",
        ),
        (pictures(4), ["--min-size", "90"], "no face found: a lower --min-size or --min-confidence may find some"),
        (pictures(4), ["--faces", "5"], "no face has such a number: --faces all --json REPORT lists them"),
        (pictures(4), ["--strength", "0"], "0 of 2 faces restored"),
    ],
)
def test_a_film_of_which_nothing_was_restored_says_why(
    frames: list[np.ndarray], options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "film.mp4"
    make(source, size=(128, 96), pictures=frames, steps=(512,) * 4)
    assert main(["restore", str(source), "-o", str(tmp_path / "out.mp4"), *options]) == 0
    assert capsys.readouterr().err.rstrip().endswith(f"wrote 4 frames into {tmp_path / 'out.mp4'}, {told}")


@pytest.mark.usefixtures("instant")
@pytest.mark.parametrize(("options", "told"), [([], True), (["--deinterlace"], False)])
def test_an_interlaced_film_is_made_whole_where_asked(
    options: list[str], told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "film.mp4", tmp_path / "out.mp4"
    frames = pictures(6)
    for early, late in pairwise(frames):
        early[::2] = late[::2]
    make(source, size=(128, 96), pictures=frames, steps=(512,) * 6, options={"flags": "+ildct+ilme"})
    assert main(["restore", str(source), "-o", str(output), "--strength", "0", *options]) == 0
    made = next(FilmReader(output).frames()).planes[0].astype(float)
    combing = np.abs(made[1:-1:2] - (made[:-2:2] + made[2::2]) / 2)[24:36, 10:60].mean()
    assert (combing > 4) == told
    assert ("turn on deinterlace" in capsys.readouterr().err) == told


@pytest.mark.usefixtures("instant")
def test_a_film_that_is_stopped_has_a_report_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    source, report = tmp_path / "film.mp4", tmp_path / "report.json"
    make(source, size=(128, 96), pictures=pictures(12), steps=(512,) * 12)
    monkeypatch.setattr(film._Run, "_report", stop)
    assert main(["restore", str(source), "-o", str(tmp_path / "out.mp4"), "--json", str(report)]) == 1
    told = json.loads(report.read_text())
    assert (told["film"], told["finished"]) == (None, False)


@pytest.mark.usefixtures("instant")
def test_a_finished_film_is_not_made_again_by_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output, report = tmp_path / "film.mp4", tmp_path / "out.mp4", tmp_path / "report.json"
    make(source, size=(128, 96), pictures=pictures(12), steps=(512,) * 12)
    command = ["restore", str(source), "-o", str(output), "--json", str(report), "--resume"]
    assert main(command) == 0  # nothing to continue yet: it begins
    made = output.stat().st_mtime_ns, report.read_text()
    assert main(command) == 2
    assert f"{output} is there already, and no stopped run to continue" in capsys.readouterr().err
    assert (output.stat().st_mtime_ns, report.read_text()) == made
    assert main(command[:-1]) == 0
    assert output.stat().st_mtime_ns > made[0]


@pytest.mark.usefixtures("instant")
def test_a_film_is_told_how_its_faces_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[film_request.FilmRequest] = []

    def refuse(request: film_request.FilmRequest, _: object) -> None:
        asked.append(request)
        raise UsageError("enough")

    monkeypatch.setattr(film, "restore_film", refuse)
    make(tmp_path / "film.mp4", steps=(512,) * 3)
    how = ["--backend", "reference", "--precision", "bfloat16", "--low-memory"]
    assert main(["restore", str(tmp_path / "film.mp4"), "-o", str(tmp_path / "out.mp4"), *how]) == 2
    told = asked[0].execution
    assert (told.backend, told.precision, told.low_memory, told.threads) == ("reference", "bfloat16", True, None)
    assert told.model.name == "quantface-mini-w4a4.safetensors"


@pytest.mark.usefixtures("instant")
@pytest.mark.parametrize("name", ["disc.vob", "animation.gif"])
def test_what_is_to_become_a_film_is_one(tmp_path: Path, name: str) -> None:
    codec, pix_fmt = ("gif", "rgb8") if name.endswith(".gif") else ("mpeg2video", "yuv420p")
    make(tmp_path / name, codec, pix_fmt, (128, 96), (512,) * 4, pictures=pictures(4))
    assert main(["restore", str(tmp_path / name), "-o", str(tmp_path / "out.mp4")]) == 0
    assert len(list(FilmReader(tmp_path / "out.mp4").frames())) == 4
    assert main(["restore", str(tmp_path / name), "-o", str(tmp_path)]) == (2 if name == "disc.vob" else 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["film.mp4", "photo.jpg"], "is a film: restore it by a command of its own"),
        (["photo.jpg", "--resume"], "--resume: only for films"),
        (["photo.jpg", "--from", "0", "--to", "1"], "--from, --to: only for films"),
        (["photo.jpg", "--smoothing", "0"], "--smoothing: only for films"),
        (["photo.jpg", "--codec", "h264", "--crf", "20", "--fps", "25"], "--codec, --crf, --fps: only for films"),
        (["photo.jpg", "--frames"], "--frames: photo.jpg is not a folder"),
        (["film.mp4", "--frames"], "--frames: film.mp4 is not a folder"),
        (["photo.jpg", "--deinterlace"], "--deinterlace: only for films"),
        (["film.mp4", "--fps", "25"], "rate is for numbered images"),
        (["frames", "--frames", "--deinterlace"], "deinterlace is for films"),
        (["film.mp4", "--compare", "--aligned"], "--aligned, --compare: only for photos"),
        (["film.mp4", "-r", "--skip-existing"], "--recursive, --skip-existing: only for photos"),
        (["photo.jpg", "--aligned", "--faces", "1", "--feather", "0"], "--faces, --feather: not with --aligned"),
        (["film.mp4", "--order", "size"], "--order: only for photos"),
        (["film.mp4", "--column", "name"], "--column: only with --ray"),
        (["photo.jpg", "--actors", "2", "--gpus", "1"], "--actors, --gpus: only with --ray"),
        (["photo.jpg", "--ray", "local", "--gpus", "1", "--device", "cpu"], "--gpus: not with --device cpu"),
        (["photo.jpg", "--ray", "local", "--device", "xpu"], "--gpus SHARE says how much of a GPU"),
        (["film.mp4", "--codec", "h266"], "choose one of"),
        (["film.mp4", "--smoothing", "-1"], "smoothing must be a number of frames"),
        (["film.mp4", "--json", "film.mp4"], "would overwrite a file that is read or written here"),
        (["film.mp4", "--json", "out.mkv"], "would overwrite a file that is read or written here"),
        (["frames", "--frames", "--json", "frames/f_1.bmp"], "would overwrite a file that is read or written here"),
        (["frames", "--frames", "--json", "out/f_1.png"], "would overwrite a file that is read or written here"),
    ],
)
@pytest.mark.usefixtures("instant")
def test_misuse_is_status_2_and_leaves_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "film.mp4", steps=(512,) * 3)
    (tmp_path / "photo.jpg").write_bytes(b"")
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "f_1.bmp").write_bytes(b"")
    assert main(["restore", *arguments, "-o", "out.mkv" if "film.mp4" in arguments else "out"]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "frames", "photo.jpg"]
