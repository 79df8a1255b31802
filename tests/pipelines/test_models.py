"""What is known of a model's file goes with it: its notes, and the licence that the catalogue states."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quantface_core import restorer_path, save_restorer
from quantface_core.pipelines.models import load_file, notes_of, save_model
from quantface_core.restorer import OneStepRestorer


def test_a_file_s_licence_is_its_own_or_the_catalogue_s(
    tiny: OneStepRestorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path))
    assert notes_of(restorer_path("quantface-mini"))["licence"] == "Apache-2.0"
    (tmp_path / "catalogue.toml").write_text(
        '[restorers.a]\nfile = "a.safetensors"\nrepo = "me/a"\nlicence = "mit"\n'
        '[restorers.b]\nfile = "b.safetensors"\nrepo = "me/b"\nlicence = "mit"\n'
    )
    for name, notes in (("a", {}), ("b", {"licence": "mine"}), ("unlisted", {})):
        save_restorer(tiny, tmp_path / f"{name}.safetensors", notes=notes)
    assert [notes_of(tmp_path / f"{n}.safetensors").get("licence") for n in ("a", "b", "unlisted")] == [
        "mit",
        "mine",
        None,
    ]


def test_what_is_made_of_a_bundled_model_carries_its_licence(tmp_path: Path) -> None:
    model = load_file("mini", restorer_path("quantface-mini"), torch.device("cpu"))
    save_model(model, tmp_path / "copy.safetensors")
    assert notes_of(tmp_path / "copy.safetensors")["licence"] == "Apache-2.0"
