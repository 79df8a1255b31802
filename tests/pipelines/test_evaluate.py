"""Each model's images have a folder of their own below the output, whatever the model is called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quantface_core.pipelines.evaluate import EvaluateRequest, _rows


@pytest.mark.parametrize("name", ["..", "", ".", "../..", "a/..", "C:\\..", "...safetensors"])
def test_a_model_s_folder_is_below_the_output(tmp_path: Path, name: str) -> None:
    models = {name: Path("model.safetensors"), "mini": Path("mini.safetensors")}
    rows = _rows(EvaluateRequest(models, tmp_path / "lq", tmp_path, torch.device("cpu")))
    folders = {row.folder.resolve() for row in rows}
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path / "restored"}
