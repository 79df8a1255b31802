"""The nodes that make low-bit models, against the stand-in, on a tiny model and few faces."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quantface_core.io.checkpoint import save_restorer
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.quantize import calibrate_restorer, quantize_restorer
from tests.conftest import FAST

SOME = {"folder": "", "find_faces": False, "degrade": True}
CALIBRATE = {**SOME, "count": 1, "rank": 4, "unet_only": True, "rounding": "nearest", "seed": 0}
BUDGET = {
    "activation_bits": 4.0, "weight_bits": 4.0, "megabytes": 0.0, "operations": 0.0, "limits": "", "metric": "ssim",
    "rank": 0, "seed": 0,
}  # fmt: skip
TRAIN = {
    **SOME, "count": 3, "steps": 2, "rank": 2, "learning_rate": 1e-4, "batch_size": 1, "mode": "end-to-end",
    "validation": 1, "seed": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def low_file(tiny: OneStepRestorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    low, faces = copy.deepcopy(tiny), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    config = replace(FAST, weight_bits=8, activation_bits=8, parts=("unet",))
    quantize_restorer(low, calibrate_restorer(low, faces), faces, config)
    save_restorer(low, path := tmp_path_factory.mktemp("low") / "tiny-w8a8.safetensors")
    return path


@pytest.fixture
def low(pack: Any, low_file: Path) -> Any:
    """The tiny restorer with 8 bits, of the classes that the pack sees."""
    own, core = (__import__(f"{pack.__name__}.{n}", fromlist=["x"]) for n in ("nodes.fr_model", "quantface_core"))
    return own.FRModel("tiny-w8a8", core.load_restorer(low_file))


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in model.restorer.state_dict().items()}


def _unchanged(model: Any, before: dict[str, torch.Tensor]) -> bool:
    after = model.restorer.state_dict()
    return set(after) == set(before) and all(torch.equal(after[name], t) for name, t in before.items())


def test_a_quantized_model_is_saved_listed_and_loaded(nodes: dict[str, Any], load: Any, low: Any) -> None:
    save, compare = nodes["QuantFace_SaveModel"], nodes["QuantFace_CompareModels"]
    save.execute(low, name="mine", overwrite=False)
    with pytest.raises(Exception, match="exists"):
        save.execute(low, name="mine", overwrite=False)
    with pytest.raises(Exception, match="exists"):  # before the model is asked for
        save.check_lazy_status(name="mine", overwrite=False)
    assert save.check_lazy_status(name="mine", overwrite=True) == ["fr_model"]
    assert "mine.safetensors" in nodes["QuantFace_LoadModel"].define_schema().inputs[0].options["options"]
    again = load("mine.safetensors")
    result = compare.execute(again, load("mine.safetensors"), count=1, **SOME)
    picture, report = result.args
    assert picture.shape == (1, 64, 192, 3)
    assert "identical" in report
    assert {"quantface_before", "quantface_after"} <= set(result.ui)
    larger = compare.execute(again, load(), count=1, **SOME).args[0]  # quantface-mini's pictures are
    assert larger.shape == (1, 256, 768, 3)
    with pytest.raises(Exception, match="quantized already"):
        nodes["QuantFace_CalibrateBalance"].execute(low, bits="w4a4", **CALIBRATE)


def test_a_saved_model_says_how_it_was_made(nodes: dict[str, Any], load: Any, full: Any) -> None:
    """The licence of what it was made from, and the settings with their seeds, as the commands note them."""
    full.notes["licence"] = "mine"
    low = nodes["QuantFace_CalibrateBalance"].execute(full, bits="w8a8", **CALIBRATE).args[0]
    trained = nodes["QuantFace_QDLoRADistill"].execute(low, full, **TRAIN).args[0]
    nodes["QuantFace_SaveModel"].execute(trained, name="noted", overwrite=True)
    notes = load("noted.safetensors").notes
    assert notes["licence"] == "mine"
    assert json.loads(notes["settings"])["seed"] == CALIBRATE["seed"]
    assert json.loads(notes["distill"])["trainer"]["seed"] == TRAIN["seed"]


def test_calibrating_leaves_the_input_and_reports_layers(nodes: dict[str, Any], full: Any) -> None:
    before = _weights(full)
    whole = {**CALIBRATE, "unet_only": False, "rounding": "compensated"}
    result = nodes["QuantFace_CalibrateBalance"].execute(full, bits="w6a6", **whole)
    model, chart, report = result.args
    assert _unchanged(full, before)
    assert chart.ndim == 4
    assert chart.shape[-1] == 3
    layers = result.ui["quantface_bits"][0]["layers"]
    assert f"{len(layers)} layers" in report
    assert model.name == "tiny-w6a6"
    json.dumps(result.ui)


def test_a_plan_meets_its_budget_and_is_followed(nodes: dict[str, Any], full: Any, host: SimpleNamespace) -> None:
    before = _weights(full)
    result = nodes["QuantFace_AllocateBits"].execute(full, count=1, **SOME, **BUDGET)
    plan, chart, report = result.args
    assert _unchanged(full, before)
    assert chart.ndim == 4
    assert json.loads(report[report.index("{") :])["model"] == "tiny"
    layers = result.ui["quantface_bits"][0]["layers"]
    assert len({tuple(widths) for _, *widths, _ in layers}) > 2  # it chose, layer by layer
    json.dumps(result.ui)
    host.checks = 0
    other = nodes["QuantFace_AllocateBits"].execute(full, count=1, **SOME, **{**BUDGET, "weight_bits": 5.0}).args[0]
    assert other.layers != plan.layers
    assert host.checks == 0  # the same measurement, another budget
    wrong = {**BUDGET, "limits": "vae.decodr=8-8"}
    with pytest.raises(Exception, match=r"vae\.decodr.*did you mean vae\.decoder"):
        nodes["QuantFace_AllocateBits"].execute(full, count=1, **SOME, **wrong)
    made = nodes["QuantFace_CalibrateBalance"].execute(full, bits="w8a8", **CALIBRATE, plan=plan)
    for name, weights, activations, _ in made.ui["quantface_bits"][0]["layers"]:
        assert name.startswith("unet.")
        assert plan.layers[name] == (weights, activations)


def test_distilling_trains_a_copy_and_shows_it(
    nodes: dict[str, Any], host: SimpleNamespace, full: Any, low: Any
) -> None:
    before, teacher = _weights(low), _weights(full)
    with torch.inference_mode():  # as the host runs nodes
        _, chart, report = nodes["QuantFace_QDLoRADistill"].execute(low, full, **TRAIN).args
    assert _unchanged(low, before)
    assert _unchanged(full, teacher)
    assert "2 steps, loss" in report
    assert "dB to the full-precision model" in report
    assert host.previews
    assert chart.ndim == 4
    last, *_ = nodes["QuantFace_QDLoRADistill"].execute(low, full, **{**TRAIN, "steps": 1, "validation": 0}).args
    after = last.restorer.state_dict()
    assert any(name not in before or after[name].shape != before[name].shape for name in after)  # wider branches
    with pytest.raises(Exception, match="full precision"):
        nodes["QuantFace_QDLoRADistill"].execute(full, full, **TRAIN)
    plain = nodes["QuantFace_CalibrateBalance"].execute(full, bits="w8a8", **{**CALIBRATE, "rank": 0}).args[0]
    with pytest.raises(Exception, match="rank above 0"):
        nodes["QuantFace_QDLoRADistill"].execute(plain, full, **TRAIN)


def test_cancelling_a_training_changes_nothing(
    nodes: dict[str, Any], host: SimpleNamespace, full: Any, low: Any
) -> None:
    before = _weights(low)
    host.on_progress = lambda: setattr(host, "cancelled", True)
    with pytest.raises(BaseException) as caught, torch.inference_mode():  # noqa: PT011
        nodes["QuantFace_QDLoRADistill"].execute(low, full, **TRAIN)
    assert type(caught.value).__name__ == "Cancelled"
    assert _unchanged(low, before)
    for model in (low, full):
        assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.restorer.modules())


def test_faces_come_from_a_folder_or_from_photos(
    nodes: dict[str, Any], host: SimpleNamespace, astronaut: Any, train_faces: Path
) -> None:
    import cv2

    faces = __import__("custom_nodes_quantface.nodes.faces", fromlist=["x"])
    load_faces = __import__("custom_nodes_quantface.quantface_core.pipelines.faces", fromlist=["x"]).load_faces

    def gather(given: torch.Tensor | None, *named: Any) -> torch.Tensor:
        return load_faces(faces.face_source(*named, faces=given), 64)

    folder = host.models / "input" / "mine"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), astronaut[..., ::-1])
    first = faces.FacesNode.fingerprint_inputs("mine")
    whole = gather(None, "mine", 5, False, False)
    assert whole.shape == (1, 3, 64, 64)
    found = gather(None, "mine", 5, True, False)
    assert found.shape == (1, 3, 64, 64)
    assert not torch.equal(found, whole)
    cv2.imwrite(str(folder / "b.png"), astronaut[:200, :, ::-1])
    assert faces.FacesNode.fingerprint_inputs("mine") != first
    with pytest.raises(Exception, match=r"b\.png is 512x200.*find_faces"):
        gather(None, "mine", 5, False, False)
    inner = folder.parent / "nested" / "00000"  # as FFHQ comes
    inner.mkdir(parents=True)
    cv2.imwrite(str(inner / "a.png"), astronaut[..., ::-1])
    first = faces.FacesNode.fingerprint_inputs("nested")
    assert gather(None, "nested", 5, False, False).shape == (1, 3, 64, 64)
    os.utime(inner / "a.png", (0, 0))  # as another image of that size would
    assert (second := faces.FacesNode.fingerprint_inputs("nested")) != first
    cv2.imwrite(str(inner / "b.png"), astronaut[..., ::-1])
    assert faces.FacesNode.fingerprint_inputs("nested") != second
    batch = torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    assert gather(batch, "", 2, False, True).shape == (2, 3, 64, 64)
    assert gather(None, "", 3, False, True).shape == (3, 3, 64, 64)


def test_the_plain_patcher_holds_a_model(nodes: Any, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of dynamic VRAM puts other tensors in the buffers' places before every run, the weights' too."""
    import sys

    patchers = sys.modules["comfy.model_patcher"]
    monkeypatch.setattr(patchers, "CoreModelPatcher", lambda *_, **__: pytest.fail("dynamic"), raising=False)
    own = sys.modules[f"{pack.__name__}.nodes.fr_model"]
    restorer = torch.nn.Module()
    restorer.device = torch.device("cpu")
    assert isinstance(own.FRModel("tiny", restorer).patcher, patchers.ModelPatcher)


def test_a_cancelled_training_goes_on_when_it_runs_again(
    pack: Any, nodes: dict[str, Any], host: SimpleNamespace, full: Any, low: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{pack.__name__}.quantface_core.pipelines.training_run._UNSAVED", 0.0)
    monkeypatch.setattr(f"{pack.__name__}.quantface_core.pipelines.training_run._PAUSE", 0.0)  # previews cancel, too

    def cancelled_at(step: int) -> list[tuple[int, int]]:
        host.cancelled, host.on_progress = False, lambda: setattr(host, "cancelled", host.bars[-1][-1] == (step, 24))
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            nodes["QuantFace_QDLoRADistill"].execute(low, full, **{**TRAIN, "steps": 24, "validation": 0})
        assert type(caught.value).__name__ == "Cancelled"
        return [place for place in host.bars[-1] if place[1] == 24]

    assert cancelled_at(2)[0] == (0, 24)
    assert len(list((host.models / "quantface" / ".runs").rglob("state.safetensors"))) == 1
    assert cancelled_at(4)[0] == (2, 24)
