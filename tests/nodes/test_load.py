"""Load Quantized FR Model against the stand-in."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


def test_a_shared_workflow_opens_where_its_backend_cannot_run(nodes: dict[str, Any], caplog: Any) -> None:
    loader = nodes["QuantFace_LoadModel"]
    model = loader.execute(model="quantface-mini-w4a4", precision="auto", backend="triton").args[0]
    assert "triton cannot run here" in caplog.text
    layers = [layer for layer in model.restorer.modules() if hasattr(layer, "packed")]
    assert layers
    assert not any("triton" in type(layer.kernel()).__module__ for layer in layers)


def test_a_registered_backend_can_be_chosen(nodes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loader = nodes["QuantFace_LoadModel"]
    core = sys.modules[loader.__module__].__package__.replace(".nodes", ".quantface_core")
    dispatch = importlib.import_module(f"{core}.kernels.dispatch")
    monkeypatch.setattr(dispatch, "BACKENDS", dict(dispatch.BACKENDS))
    parts = {name: getattr(dispatch.reference, name) for name in ("Conv2d", "supports", "unavailable")}
    linear = type("Linear", (dispatch.reference.Linear,), {})
    dispatch.register_backend("mine", SimpleNamespace(Linear=linear, **parts))
    (listed,) = (socket.options["options"] for socket in loader.define_schema().inputs if socket.id == "backend")
    assert listed[-1] == "mine"
    model = loader.execute(model="quantface-mini-w4a4", precision="auto", backend="mine").args[0]
    assert any(type(layer.kernel()) is linear for layer in model.restorer.modules() if hasattr(layer, "packed"))


def test_choices_tell_what_they_take_and_old_marks_still_load(nodes: dict[str, Any]) -> None:
    loader = nodes["QuantFace_LoadModel"]
    options = loader.define_schema().inputs[0].options["options"]
    assert options[:2] == ["quantface-mini-w4a4 (bundled)", "quantface-mini (bundled)"]
    assert loader.validate_inputs(model="quantface-mini-w4a4 (fetch)") is True
    fingerprint = loader.fingerprint_inputs(model="quantface-mini-w4a4 (bundled)")
    assert fingerprint == loader.fingerprint_inputs(model="quantface-mini-w4a4 (local)")
    assert fingerprint != loader.fingerprint_inputs(model="quantface-mini (bundled)")


def test_a_file_named_like_a_bundled_model_is_listed_apart(
    nodes: dict[str, Any], load: Any, host: SimpleNamespace, tmp_path: Path
) -> None:
    folder = host.models / "quantface"
    folder.mkdir(exist_ok=True)
    nodes["QuantFace_SaveModel"].execute(load("quantface-mini (bundled)"), name="other", overwrite=False)
    (folder / "other.safetensors").rename(folder / "quantface-mini-w4a4.safetensors")
    loader = nodes["QuantFace_LoadModel"]
    options = loader.define_schema().inputs[0].options["options"]
    assert options[0] == "quantface-mini-w4a4 (bundled)"
    assert options[-1] == "quantface-mini-w4a4.safetensors"
    assert loader.validate_inputs(model=options[-1]) is True
    prints = {loader.fingerprint_inputs(model=model) for model in (options[0], options[-1])}
    assert len(prints) == 2
    assert not any(hasattr(layer, "packed") for layer in load(options[-1]).restorer.modules())
    assert any(hasattr(layer, "packed") for layer in load(options[0]).restorer.modules())


def test_a_run_does_not_hash_the_model_again(
    nodes: dict[str, Any], load: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when it is validated, nor asked for changes, nor loaded; the user's own files never."""
    (host.models / "quantface").mkdir(exist_ok=True)
    nodes["QuantFace_SaveModel"].execute(load(), name="mine", overwrite=False)
    checksum = sys.modules["custom_nodes_quantface.quantface_core.io.checksum"]
    hashed, sha256 = list[str](), checksum.sha256
    monkeypatch.setattr(checksum, "sha256", lambda path: (hashed.append(path.name), sha256(path))[1])
    checksum._sha256_of.cache_clear()
    loader = nodes["QuantFace_LoadModel"]
    for name in ("mine.safetensors", "quantface-mini (bundled)") * 3:
        assert loader.validate_inputs(model=name) is True
        loader.fingerprint_inputs(model=name)
        load(name)
    assert hashed == ["quantface-mini.safetensors"]


def test_a_changed_file_is_loaded_again(nodes: dict[str, Any], load: Any, host: SimpleNamespace) -> None:
    (host.models / "quantface").mkdir(exist_ok=True)
    save, loader = nodes["QuantFace_SaveModel"], nodes["QuantFace_LoadModel"]
    save.execute(load(), name="mine", overwrite=False)
    before = loader.fingerprint_inputs(model="mine.safetensors")
    assert loader.fingerprint_inputs(model="mine.safetensors") == before
    save.execute(load("quantface-mini (bundled)"), name="mine", overwrite=True)
    assert loader.fingerprint_inputs(model="mine.safetensors") != before
