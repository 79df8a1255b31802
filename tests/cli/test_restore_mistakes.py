"""Commands that cannot be done: a line that says why, a status, and nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from quantface_core.cli.main import main
from tests.cli.listing import listing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strength", "2"], "strength must be auto, or between 0 and 1"),
        (["--batch-size", "-1"], "batch_size must be at least 1"),
        (["--batch-size", "4", "--low-memory"], "--batch-size: not with --low-memory"),
        (["--min-size", "nan"], "min_size must be"),
        (["--min-confidence", "nan"], "min_confidence must be"),
        (["--strength", "nan"], "strength must be auto, or between 0 and 1"),
        (["--json", "."], "--json . is a folder"),
        (["--upscaler", "x.pth"], "give --upscale 2 or 4"),
        (["--upscaler", "x.pth", "--upscale", "2", "--aligned"], "without --aligned"),
        (["--json", "conftest.py/r.json"], "is a file, not a folder"),
        (["--backend", "tpu"], "unknown backend 'tpu': use auto, onednn"),
        (["--device", "mps"], "not available on this machine; available: "),
    ],
)
def test_misuse_is_status_2_and_writes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    models_dir: Path,
    arguments: list[str],
    message: str,
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.chdir(Path(__file__).parents[1])
    assert main(["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert listing(tmp_path) == ["a.png"]


@pytest.mark.parametrize("arguments", [["--faces", "eyes"], ["--upscale", "3"], ["--color", "sepia"], ["--unknown"]])
def test_what_the_parser_refuses_is_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["restore", "a.png", *arguments])
    assert stopped.value.code == 2


def test_an_unknown_model_is_status_1(tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    command = ["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--model", "quantface-mimi"]
    assert main(command) == 1
    assert "did you mean quantface-mini?" in capsys.readouterr().err


def test_what_would_be_too_large_enlarged_is_refused_first(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (200, 200)).save(tmp_path / "a.png")
    monkeypatch.setattr("quantface_core.io.photos.limits.MAX_PIXELS", 200 * 200)
    assert main(["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--upscale", "2"]) == 1
    assert "a.png: enlarged, 400x400 is more than" in capsys.readouterr().err
    assert listing(tmp_path) == ["a.png"]


@pytest.mark.parametrize("name", ["a.png", "model.safetensors", "x4.pth"])
def test_a_report_may_not_overwrite_what_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for file in ("model.safetensors", "x4.pth"):
        (tmp_path / file).write_bytes(b"weights")
    model = ["--model", str(tmp_path / "model.safetensors"), "--upscale", "4", "--upscaler", str(tmp_path / "x4.pth")]
    out = ["-o", str(tmp_path / "out"), "--json", str(tmp_path / name)]
    assert main(["restore", str(tmp_path / "a.png"), *model, *out]) == 2
    assert "would overwrite a file that is read or written here" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs folders that are closed to this user")
def test_a_closed_folder_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    assert main(["restore", str(tmp_path / "closed" / "a.png"), "-o", str(tmp_path / "out")]) == 1
    assert "a.png" in capsys.readouterr().err


def test_a_name_too_long_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["info", "x" * 300],
        ["evaluate", "quantface-mini", "--lq", "x" * 300, "-o", str(tmp_path / "o")],
    ):
        assert main(command) in (1, 2)
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
