"""`quantface distill`: what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantface_core.cli.main import main
from quantface_core.errors import UsageError
from quantface_core.pipelines import distill, fetch
from quantface_core.pipelines.distill import DistillRequest
from quantface_core.pipelines.faces import FaceSource


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ([], 400 * 4 + 16),
        (["--steps", "10", "--batch-size", "2", "--accumulation", "3", "--validation", "0"], 60),
        (["--steps", "100000"], 10_000),
        (["--count", "50"], 50),
    ],
)
def test_no_more_faces_are_read_than_its_steps_see(
    options: list[str], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[DistillRequest] = []

    def refuse(request: DistillRequest, _: object) -> None:
        asked.append(request)
        raise UsageError("enough")

    monkeypatch.setattr(distill, "distill", refuse)
    monkeypatch.setattr(fetch, "load_model", lambda name, *_: name)
    command = [
        "distill",
        "low",
        "--teacher",
        "full",
        "--images",
        str(tmp_path),
        "-o",
        str(tmp_path / "made.safetensors"),
    ]
    assert main([*command, *options]) == 2
    faces = asked[0].faces
    assert isinstance(faces, FaceSource)
    assert faces.count == count
