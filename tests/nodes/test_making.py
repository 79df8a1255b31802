"""Models that the loader fetches when it runs, from a local Hub, by a process of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quantface_core import save_restorer
from quantface_core.restorer import OneStepRestorer
from tests.io.far_model import far_model
from tests.io.local_hub import LocalHub


@pytest.fixture
def hub(
    host: SimpleNamespace, tiny: OneStepRestorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalHub]:
    """Has the tiny restorer."""
    save_restorer(tiny, tmp_path / "tiny.safetensors")
    content = (tmp_path / "tiny.safetensors").read_bytes()
    with far_model(monkeypatch, content, host.models / "quantface", tmp_path / "hf") as served:
        yield served


def _marks(loader: Any) -> dict[str, str]:
    options = loader.define_schema().inputs[0].options["options"]
    return dict(option.removesuffix(")").split(" (") for option in options if option.endswith(")"))


def test_a_model_is_fetched_and_is_local_then(nodes: dict[str, Any], hub: LocalHub, tiny: OneStepRestorer) -> None:
    loader = nodes["QuantFace_LoadModel"]
    assert _marks(loader)["far"] == "fetch"
    assert loader.fingerprint_inputs(model="far (fetch)") == "far"
    model = loader.execute(model="far (fetch)", precision="auto", backend="auto").args[0]
    assert torch.equal(model.restorer.unet.conv_in.weight, tiny.unet.conv_in.weight.half().float())
    assert _marks(loader)["far"] == "local"
    hub.requests.clear()
    loader.execute(model="far (local)", precision="auto", backend="auto")
    assert not hub.requests


@pytest.mark.usefixtures("hub")
def test_a_model_that_a_run_made_does_not_repeat_the_run(nodes: dict[str, Any], host: SimpleNamespace) -> None:
    loader = nodes["QuantFace_LoadModel"]
    before = loader.fingerprint_inputs(model="far (fetch)")
    loader.execute(model="far (fetch)", precision="auto", backend="auto")
    assert loader.fingerprint_inputs(model="far (fetch)") == before
    assert loader.fingerprint_inputs(model="far (local)") == before
    (host.models / "quantface" / "far.safetensors").write_bytes(b"another")
    assert loader.fingerprint_inputs(model="far (local)") != before


def test_cancel_ends_a_download(nodes: dict[str, Any], hub: LocalHub, host: SimpleNamespace) -> None:
    """One that takes seconds a piece, as far as anybody waits for it."""

    def slow(_: int) -> None:
        host.cancelled = True
        time.sleep(1)

    hub.watch = slow
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        nodes["QuantFace_LoadModel"].execute(model="far", precision="auto", backend="auto")
    assert type(caught.value).__name__ == "Cancelled"
    assert not (host.models / "quantface" / "far.safetensors").exists()
    assert host.bars[-1][-1][1] == 100


def test_what_cannot_be_fetched_says_why(nodes: dict[str, Any], hub: LocalHub) -> None:
    hub.files.clear()
    with pytest.raises(Exception, match=r"model far: .*someone/faces"):
        nodes["QuantFace_LoadModel"].execute(model="far", precision="auto", backend="auto")


def test_what_recipes_make_of_models_to_be_built_is_offered(nodes: dict[str, Any]) -> None:
    marks = _marks(nodes["QuantFace_LoadModel"])
    assert marks["osdface-w4a4"] == marks["osdface"] == "build"
    assert not any(name.startswith("mini-") for name in marks)


def test_a_broken_catalogue_takes_no_model_away(nodes: dict[str, Any], host: SimpleNamespace, caplog: Any) -> None:
    (host.models / "quantface").mkdir(exist_ok=True)
    (host.models / "quantface" / "catalogue.toml").write_text("[restorers")
    assert _marks(nodes["QuantFace_LoadModel"])["quantface-mini"] == "bundled"
    assert "catalogue.toml" in caplog.text
