"""What `quantface restore` says at the end of a run, and its report on what computed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from quantface_core.cli.results import report_results
from quantface_core.io.models import restorer_path
from quantface_core.options import RestoreOptions
from quantface_core.pipelines.models import Execution
from quantface_core.pipelines.restore import PhotoResult
from quantface_core.pipelines.restore_file import FaceReport, FileReport, PageReport
from quantface_core.types import Face


def finished(name: str, pages: Sequence[Sequence[bool]], size: float = 99.0) -> PhotoResult:
    """A photo's result: for each page and each chosen face of it, whether the face is unchanged."""
    reports = tuple(
        PageReport(
            (Face((0.0, 0.0, size, size), (), 1.0),) * len(faces),
            tuple(FaceReport(i, float(not kept), "done", kept) for i, kept in enumerate(faces)),
            (),
        )
        for faces in pages
    )
    return PhotoResult(name, FileReport(f"out/{name}", None, (8, 8), reports, ()), "", 0.1)


def ended(
    results: Sequence[PhotoResult],
    tmp_path: Path,
    ray: str | None = None,
    strength: str | float = "auto",
    upscale: int = 1,
) -> int:
    execution = Execution(restorer_path("quantface-mini-w4a4"), torch.device("cpu"))
    arguments = argparse.Namespace(json=tmp_path / "report.json", output="out", model="quantface-mini-w4a4", ray=ray)
    options = RestoreOptions(strength=strength, upscale=upscale)
    return report_results(lambda _: (execution, iter(results)), 4, {}, "", arguments, options)


def test_photos_with_restored_faces_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = PhotoResult("d.png", None, "d.png: damaged", 0.1)
    results = [finished("a.png", [[True, False]]), finished("b.png", [[True], [True]]), finished("c.png", [[]]), failed]
    assert ended(results, tmp_path) == 1
    told = capsys.readouterr().err
    assert "wrote 3 of 4 photos to out, 1 with restored faces\n" in told
    assert "faces left as they were: 3; --strength 1 restores them too\n" in told
    assert "1 of 4 photos failed\n" in told


def test_neighbours_of_one_outcome_share_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = [True, True, True, False, True, False, True, True]
    assert ended([finished("crowd.png", [kept])], tmp_path) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("crowd.png")]
    assert lines == [f"crowd.png: {who} done" for who in ("faces 0 to 2, each", "face 4", "faces 6 to 7, each")]


@pytest.mark.parametrize(
    ("upscale", "told"), [(1, "2; --upscale 4 shows more of small ones (1), --strength 1"), (2, "2; --strength 1")]
)
def test_small_faces_show_more_in_an_enlarged_photo(
    upscale: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [finished("a.png", [[True, False]], size=20.0), finished("b.png", [[True]])]
    assert ended(results, tmp_path, upscale=upscale) == 0
    assert f"faces left as they were: {told} restores them too\n" in capsys.readouterr().err


def test_a_strength_that_was_chosen_is_not_argued_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended([finished("a.png", [[True]])], tmp_path, strength=0.05) == 0
    assert "--strength" not in capsys.readouterr().err


@pytest.mark.parametrize("ray", [None, "local"])
def test_the_report_names_what_computes_here_and_what_workers_are_asked_for(tmp_path: Path, ray: str | None) -> None:
    assert ended([], tmp_path, ray) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["backend"] == "auto") == (report["precision"] == "auto") == bool(ray)
