"""What is known of a model's file goes with it: its notes, the catalogue's licence; and what "auto" stands for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quantface_core import restorer_path, save_restorer
from quantface_core.errors import UsageError
from quantface_core.kernels.backend import NAMES
from quantface_core.nn.swap import quant_layers
from quantface_core.pipelines.models import Execution, load_file, load_for, notes_of, resolve, save_model
from quantface_core.restorer import OneStepRestorer, RestorerModel
from tests.published import FILES


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


@pytest.mark.parametrize(("name", "low_bit"), [("quantface-mini", False), ("quantface-mini-w4a4", True)])
def test_auto_resolves_to_what_is_loaded(name: str, low_bit: bool) -> None:
    execution = Execution(restorer_path(name), torch.device("cpu"))
    resolved, loaded = resolve(execution), load_for(execution)
    assert isinstance(loaded, RestorerModel)
    assert getattr(torch, resolved.precision) == next(p.dtype for p in loaded.parameters() if p.is_floating_point())
    assert (resolved.backend in NAMES) == low_bit == bool(quant_layers(loaded))


def test_what_is_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    path, cpu = restorer_path("quantface-mini-w4a4"), torch.device("cpu")
    asked = Execution(path, cpu, backend="reference", precision="float32")
    assert resolve(asked) == asked
    monkeypatch.setenv("QUANTFACE_BACKEND", "reference")
    assert resolve(Execution(path, cpu)).backend == "reference"
    with pytest.raises(UsageError, match="backend triton cannot run here"):
        resolve(Execution(path, cpu, backend="triton"))


def test_a_published_file_has_no_backend(published: Path) -> None:
    resolved = resolve(Execution(published / FILES["GFPGAN"], torch.device("cpu")))
    assert (resolved.backend, resolved.precision) == ("", "float32")


def test_what_is_made_of_a_bundled_model_carries_its_licence(tmp_path: Path) -> None:
    model = load_file("mini", restorer_path("quantface-mini"), torch.device("cpu"))
    save_model(model, tmp_path / "copy.safetensors")
    assert notes_of(tmp_path / "copy.safetensors")["licence"] == "Apache-2.0"
