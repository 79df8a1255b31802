"""The nodes against the stand-in: schemas, files that go with them, and what they do."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
IDS = {f"QuantFace_{n}" for n in ("LoadModel", "RestoreFace", "CalibrateBalance", "SaveModel", "CompareModels")}
DEFAULTS = {
    "faces": "all", "positions": "0", "order": "left-to-right", "strength": 1.0, "color": "wavelet", "upscale": "1",
    "min_confidence": 0.7, "min_size": 0, "batch_size": 4,
}  # fmt: skip


def load(nodes: dict[str, Any], model: str = "quantface-mini-w4a4 (bundled)") -> Any:
    return nodes["QuantFace_LoadModel"].execute(model=model, precision="auto", backend="auto").args[0]


@pytest.fixture
def photo(astronaut: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(astronaut.astype(np.float32) / 255)[None]


def test_ids_are_stable_and_every_node_is_named_and_explained(nodes: dict[str, Any]) -> None:
    assert set(nodes) == IDS
    for node in nodes.values():
        schema = node.define_schema()
        assert schema.category == "QuantFace"
        assert schema.display_name
        assert schema.description


@pytest.mark.parametrize("language", ["en", "zh"])
def test_locales_name_every_input_and_output(nodes: dict[str, Any], language: str) -> None:
    defs = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    assert set(defs) == IDS
    for node_id, node in nodes.items():
        schema = node.define_schema()
        assert set(defs[node_id]["inputs"]) == {i.id for i in schema.inputs}
        assert set(defs[node_id]["outputs"]) == {str(i) for i in range(len(schema.outputs))}


def test_every_node_has_a_help_page(nodes: dict[str, Any]) -> None:
    assert {page.stem for page in (ROOT / "web" / "docs").glob("*.md")} == set(nodes)


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda p: p.stem)
def test_workflows_fit_the_schemas(nodes: dict[str, Any], path: Path) -> None:
    workflow = json.loads(path.read_text("utf-8"))
    by_id = {node["id"]: node for node in workflow["nodes"]}
    for number, source, output, target, socket, kind in workflow["links"]:
        assert number in by_id[source]["outputs"][output]["links"]
        assert by_id[target]["inputs"][socket]["link"] == number
        assert by_id[target]["inputs"][socket]["type"] == by_id[source]["outputs"][output]["type"] == kind
    for node in workflow["nodes"]:
        if node["type"] in IDS:
            schema = nodes[node["type"]].define_schema()
            sockets = [i.id for i in schema.inputs if not i.widget]
            widgets = [i for i in schema.inputs if i.widget]
            assert [i["name"] for i in node["inputs"]] == sockets
            assert [o["name"] for o in node["outputs"]] == [o.display_name for o in schema.outputs]
            assert len(node["widgets_values"]) == len(widgets)
            for value, widget in zip(node["widgets_values"], widgets, strict=True):
                assert value in widget.options.get("options", [value])


def test_a_photo_is_restored_and_the_rest_stays_exactly(nodes: dict[str, Any], photo: torch.Tensor) -> None:
    photo = photo * 0.999 + 0.0003  # values between the 16-bit steps
    output = nodes["QuantFace_RestoreFace"].execute(fr_model=load(nodes), image=photo, **DEFAULTS)
    picture, crops, changed, report = output.args
    assert picture.shape == photo.shape
    assert crops.shape == (1, 256, 256, 3)
    assert 0.01 < float((changed > 0).float().mean()) < 0.5
    assert torch.equal(picture[changed == 0], photo[changed == 0])
    assert float((picture - photo).abs().amax()) > 0.02
    assert report == "picture 0: 1 of 1 faces restored"


def test_a_mask_keeps_the_change_inside(nodes: dict[str, Any], photo: torch.Tensor) -> None:
    mask = torch.zeros(1, 512, 512)
    mask[:, :, 224:] = 1
    model = load(nodes)
    picture, _, changed, _ = nodes["QuantFace_RestoreFace"].execute(model, photo, mask=mask, **DEFAULTS).args
    assert torch.equal(picture[:, :, :223], photo[:, :, :223])
    assert not torch.equal(picture[:, :, 225:], photo[:, :, 225:])
    assert not changed[:, :, :223].any()


def test_a_picture_without_faces_comes_back(nodes: dict[str, Any]) -> None:
    gray = torch.full((2, 96, 128, 3), 0.3)
    picture, crops, changed, report = nodes["QuantFace_RestoreFace"].execute(load(nodes), gray, **DEFAULTS).args
    assert torch.equal(picture, gray)
    assert crops.shape == (1, 256, 256, 3)
    assert not changed.any()
    assert report.splitlines()[1] == "picture 1: 0 of 0 faces restored"


def test_bad_input_is_named(nodes: dict[str, Any]) -> None:
    restore, loader, save = (nodes[f"QuantFace_{n}"] for n in ("RestoreFace", "LoadModel", "SaveModel"))
    assert restore.validate_inputs(faces="positions", positions="0, 2") is True
    assert "whole numbers" in restore.validate_inputs(faces="positions", positions="x")
    assert "not in models/quantface" in loader.validate_inputs(model="gone.safetensors")
    assert "letters" in save.validate_inputs(name="../../evil")
    with pytest.raises(Exception, match="NaN"):
        restore.execute(load(nodes), torch.full((1, 64, 64, 3), float("nan")), **DEFAULTS)


def test_cancel_stops_the_work(nodes: dict[str, Any], host: SimpleNamespace, photo: torch.Tensor) -> None:
    model = load(nodes)
    host.cancelled = True
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        nodes["QuantFace_RestoreFace"].execute(model, photo, **DEFAULTS)
    assert type(caught.value).__name__ == "Cancelled"


def test_a_quantized_model_is_saved_listed_and_loaded(nodes: dict[str, Any], train_faces: Path) -> None:
    import cv2

    paths = sorted(train_faces.glob("*.jpg"))[:2]
    faces = torch.stack([torch.from_numpy(cv2.imread(str(p))[..., ::-1].copy()).float() / 255 for p in paths])
    full = load(nodes, "quantface-mini (bundled)")
    calibrate, save, compare = (nodes[f"QuantFace_{n}"] for n in ("CalibrateBalance", "SaveModel", "CompareModels"))
    low, report = calibrate.execute(full, faces, bits="w8a8", rank=0, unet_only=True, seed=0).args
    assert "layers at w8a8" in report
    save.execute(low, name="mine", overwrite=False)
    with pytest.raises(Exception, match="exists"):
        save.execute(low, name="mine", overwrite=False)
    assert "mine.safetensors" in nodes["QuantFace_LoadModel"].define_schema().inputs[0].options["options"]
    again = load(nodes, "mine.safetensors")
    picture, report = compare.execute(low, again, faces[:1]).args
    assert picture.shape == (1, 256, 768, 3)
    assert "identical" in report
    with pytest.raises(Exception, match="quantized already"):
        calibrate.execute(low, faces, bits="w4a4", rank=0, unet_only=True, seed=0)
