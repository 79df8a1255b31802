"""A model that a recipe makes: from how many faces, and what goes of what a killed process has left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from quantface_core.errors import QuantFaceError, UsageError
from quantface_core.io.recipes import known_recipes, load_recipe
from quantface_core.pipelines import build as built
from quantface_core.pipelines.build import BuildRequest, BuildResult, build_named, check_build
from quantface_core.pipelines.callbacks import PipelineCallbacks
from quantface_core.pipelines.faces import FaceSource
from quantface_core.types import Budget, RestorerDistillConfig, RestorerQuantConfig


def test_a_killed_build_s_half_files_are_removed_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(name for name in known_recipes() if not load_recipe(name).distill)
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path))
    (work := tmp_path / f"{name}.build").mkdir()
    for half in (work / ".quantface-a.safetensors", others := tmp_path / ".quantface-b.safetensors"):
        half.write_bytes(b"half a model")

    def build(request: BuildRequest, _: PipelineCallbacks) -> BuildResult:
        assert request.device == torch.device("meta")  # the one asked for
        assert not list(work.iterdir())
        assert request.output.parent == work  # where a temporary file of it is, too
        request.output.write_bytes(b"a model")
        return BuildResult(request.output, request.output)

    monkeypatch.setattr(built, "build", build)
    path = build_named(name, device=torch.device("meta"))
    assert path.read_bytes() == b"a model"
    assert {p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")} == {path.name, others.name}


@pytest.mark.parametrize(
    ("faces", "trained", "count"),
    [(None, True, 160 * 4 + 16), (100, True, 100), (10, True, 64), (None, False, 64)],  # calibration takes 64
)
def test_no_more_faces_are_read_than_its_stages_use(
    faces: int | None, trained: bool, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: FaceSource, *_: object) -> None:
        raise UsageError(f"asked for {source.count}")

    monkeypatch.setattr(built, "load_faces", refuse)
    recipe = replace(load_recipe("mini-w4a4"), faces=faces)
    asked = BuildRequest(
        recipe if trained else replace(recipe, distill=None),
        tmp_path / "made.safetensors",
        tmp_path,
        torch.device("cpu"),
        images=tmp_path,
    )
    with pytest.raises(UsageError, match=f"asked for {count}$"):
        built.build(asked)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quantize": RestorerQuantConfig(rank=-1)}, "rank and seed are at least 0"),
        ({"quantize": RestorerQuantConfig(rounding="neerest")}, "got 'neerest'"),  # type: ignore[arg-type]
        ({"budget": Budget(4), "perceptual": "mssim"}, "did you mean ssim"),
        ({"distill": RestorerDistillConfig(perceptual="psnrr")}, "did you mean psnr"),
    ],
)
def test_a_wrong_value_in_a_recipe_is_told_before_the_first_stage(
    wrong: dict[str, Any], message: str, tmp_path: Path
) -> None:
    recipe = replace(load_recipe("mini-w4a4"), **wrong)
    with pytest.raises(QuantFaceError, match=message):
        check_build(BuildRequest(recipe, tmp_path / "made.safetensors", tmp_path, torch.device("cpu")))
