"""The nodes against the stand-in: their schemas, and what they do with pictures."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
RESTORE = {
    "faces": "all", "positions": "0", "order": "left-to-right", "strength": 1.0, "color": "wavelet", "upscale": "1",
    "min_confidence": 0.7, "min_size": 0, "feather": 0.32, "smoothing": 0.0, "batch_size": 0,
}  # fmt: skip


@pytest.fixture
def restore(nodes: dict[str, Any], load: Any) -> Any:
    """A function from pictures, a model and changed settings to Restore Face's outputs and its preview."""

    def restored(image: torch.Tensor, model: Any = None, **changes: Any) -> tuple[Any, ...]:
        node = nodes["QuantFace_RestoreFace"]
        result = node.execute(fr_model=model or load(), image=image, **{**RESTORE, **changes})
        return (*result.args, result.ui)

    return restored


@pytest.fixture
def photo(astronaut: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(astronaut.astype(np.float32) / 255)[None]


def test_every_node_is_named_and_explained(nodes: dict[str, Any]) -> None:
    for node in nodes.values():
        schema = node.define_schema()
        assert schema.category == "QuantFace"
        assert schema.display_name
        assert schema.description
        for i in schema.inputs:
            assert i.options.get("tooltip") or node.__name__ == "SaveModel", f"{node.__name__}.{i.id}"


def test_no_seed_changes_by_itself(nodes: dict[str, Any]) -> None:
    """The page would draw a new one after every run, and minutes of training would be done again."""
    for node in nodes.values():
        for i in node.define_schema().inputs:
            if i.id == "seed":
                assert i.options["control_after_generate"] is False


def test_a_photo_is_restored_and_the_rest_stays_exactly(restore: Any, photo: torch.Tensor) -> None:
    photo = photo * 0.999 + 0.0003  # values between the 16-bit steps
    picture, crops, changed, report, ui = restore(photo)
    assert picture.shape == photo.shape
    assert crops.shape == (1, 256, 256, 3)
    assert 0.01 < float((changed > 0).float().mean()) < 0.5
    assert torch.equal(picture[changed == 0], photo[changed == 0])
    assert float((picture - photo).abs().amax()) > 0.02
    assert report.splitlines()[0] == "picture 0: 1 of 1 faces restored"
    assert "face 0: " in report
    assert torch.equal(ui["quantface_before"][0], photo[0])
    assert torch.equal(ui["quantface_after"][0], picture[0])


def test_a_mask_keeps_the_change_inside(restore: Any, photo: torch.Tensor) -> None:
    mask = torch.zeros(1, 512, 512)
    mask[:, :, 224:] = 1
    picture, _, changed, *_ = restore(photo, mask=mask)
    assert torch.equal(picture[:, :, :223], photo[:, :, :223])
    assert not torch.equal(picture[:, :, 225:], photo[:, :, 225:])
    assert not changed[:, :, :223].any()


def test_boxes_and_masks_take_the_detectors_place(restore: Any, load: Any, photo: torch.Tensor) -> None:
    model = load()
    detected, _, area, *_ = restore(photo, model)
    box = {"x": 175, "y": 60, "width": 100, "height": 120}
    white = torch.zeros(1, 512, 512)
    white[:, 60:180, 175:275] = 1
    for given in ({"boxes": box}, {"boxes": [box]}, {"boxes": [[box]]}, {"face_mask": white}):
        picture, _, changed, report, _ = restore(photo, model, **given)
        assert "confidence 1.00" in report
        assert float((changed - area).abs().mean()) < 0.02
        assert float((picture - detected).abs().mean()) < 0.005
    elsewhere = {"x": 400, "y": 350, "width": 60, "height": 70}
    _, _, changed, *_ = restore(photo, model, boxes=[elsewhere])
    assert changed[0, 300:450, 350:500].any()
    assert not changed[0, :200].any()
    with pytest.raises(Exception, match="boxes are for 3 pictures"):
        restore(photo, model, boxes=[[box], [], []])
    with pytest.raises(Exception, match="boxes: give x"):
        restore(photo, model, boxes=[7])


def test_faces_are_pasted_onto_an_enlarged_background(restore: Any, photo: torch.Tensor) -> None:
    background = torch.nn.functional.interpolate(photo.movedim(-1, 1), scale_factor=1.5, mode="bilinear").movedim(1, -1)
    picture, _, changed, *_ = restore(photo, background=background)
    assert picture.shape == (1, 768, 768, 3)
    assert torch.equal(picture[changed == 0], background[changed == 0])
    assert float((picture - background).abs().amax()) > 0.02
    with pytest.raises(Exception, match="background"):
        restore(photo, background=background[:, :500])


def test_smoothing_closes_a_gap_in_the_frames(restore: Any, load: Any, photo: torch.Tensor) -> None:
    frames = torch.cat([photo, photo, photo])
    box = {"x": 175, "y": 60, "width": 100, "height": 120}
    boxes = [[box], [], [box]]
    model = load()
    assert not restore(frames, model, boxes=boxes)[2][1].any()
    picture, _, changed, *_ = restore(frames, model, boxes=boxes, smoothing=2.0)
    assert changed[1].any()
    torch.testing.assert_close(picture[1], picture[0])


def test_a_picture_without_faces_comes_back(restore: Any) -> None:
    gray = torch.full((2, 96, 128, 3), 0.3)
    picture, crops, changed, report, _ = restore(gray)
    assert torch.equal(picture, gray)
    assert crops.shape == (1, 256, 256, 3)
    assert not changed.any()
    assert report.splitlines()[1] == "picture 1: 0 of 0 faces restored"


def test_bad_input_is_named(nodes: dict[str, Any], restore: Any) -> None:
    node, loader, save = (nodes[f"QuantFace_{n}"] for n in ("RestoreFace", "LoadModel", "SaveModel"))
    assert node.validate_inputs(faces="positions", positions="0, 2") is True
    assert "whole numbers" in node.validate_inputs(faces="positions", positions="x")
    assert "not in models/quantface" in loader.validate_inputs(model="gone.safetensors")
    assert "letters" in save.validate_inputs(name="../../evil")
    assert "another model" in save.validate_inputs(name="quantface-mini")
    assert "precision" in loader.validate_inputs(precision="fp16")
    assert loader.fingerprint_inputs(model=None) == loader.fingerprint_inputs()  # given by another node
    for name in ("AllocateBits", "CalibrateBalance", "QDLoRADistill", "CompareModels"):
        assert "no such folder" in nodes[f"QuantFace_{name}"].validate_inputs(folder="nowhere")
        assert nodes[f"QuantFace_{name}"].validate_inputs(folder=None) is True  # given by another node
    assert "limits" in nodes["QuantFace_AllocateBits"].validate_inputs(folder="", limits="vae.decoder=9")
    with pytest.raises(Exception, match="NaN"):
        restore(torch.full((1, 64, 64, 3), float("nan")))


def test_what_other_nodes_give_is_checked_too(nodes: dict[str, Any], load: Any, restore: Any) -> None:
    """The host validates typed values alone; a name from another node must not leave the models folder."""
    save = nodes["QuantFace_SaveModel"]
    for name in ("../../evil", "/tmp/evil", ""):
        with pytest.raises(Exception, match="letters"):
            save.execute(load(), name=name, overwrite=True)
    with pytest.raises(Exception, match="whole numbers"):
        restore(torch.zeros(1, 64, 64, 3), faces="positions", positions="1, x")
    some = {"folder": "nowhere", "count": 1, "find_faces": False, "degrade": False}
    with pytest.raises(Exception, match="no such folder"):
        nodes["QuantFace_CompareModels"].execute(load(), load(), **some)


def test_masks_and_pictures_of_other_shapes_are_understood(restore: Any, photo: torch.Tensor) -> None:
    small = photo[:, :256, 128:384]
    size = small.shape[1:3]
    plain, _, changed, _, _ = restore(small, mask=torch.ones(1, *size))
    assert changed.any()
    for mask in (torch.ones(size), torch.ones(1, 1, *size), torch.ones(1, *size).bfloat16()):
        assert torch.equal(restore(small, mask=mask, face_mask=None)[0], plain)
    one_channel, none = small.mean(-1, keepdim=True).bfloat16(), torch.zeros(0, 64, 64, 3)
    assert restore(one_channel)[0].shape == small.shape
    for bad in ({"image": none}, {"image": small, "mask": none[..., 0]}, {"image": small[0]}):
        with pytest.raises(Exception, match="not empty"):
            restore(**bad)


def test_a_mask_of_nothing_and_a_box_outside_are_told(restore: Any, photo: torch.Tensor, caplog: Any) -> None:
    picture, _, changed, report, _ = restore(photo, mask=torch.zeros(1, 64, 64))  # as Load Image gives without alpha
    assert torch.equal(picture, photo)
    assert not changed.any()
    assert "the mask leaves nothing" in report
    inside = {"x": 170, "y": 60, "width": 110, "height": 140}
    picture, _, changed, report, _ = restore(photo, boxes=[inside, {**inside, "x": 5000}])
    assert changed.any()
    assert "1 of 1 faces" in report
    assert "outside" in caplog.text


def test_progress_goes_face_by_face(restore: Any, load: Any, photo: torch.Tensor, host: SimpleNamespace) -> None:
    both = torch.cat([photo, photo.flip(2)], dim=2)
    restore(both, batch_size=1)
    shares = [value / total for value, total in host.bars[-1]]
    assert shares == sorted(shares)
    assert len({share for share in shares if 0.1 < share < 1}) == 1  # between the two
    assert shares[-1] == 1


def test_not_enough_memory_is_the_host_s_to_tell(restore: Any, load: Any, photo: torch.Tensor) -> None:
    model = load()

    def encode(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("no room")

    model.restorer.encode = encode
    with pytest.raises(torch.cuda.OutOfMemoryError):
        restore(photo, model)


def test_cancel_stops_within_a_layer(restore: Any, load: Any, host: SimpleNamespace, photo: torch.Tensor) -> None:
    model = load()
    restore(photo, model)
    assert host.checks > 100  # every layer asked
    hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.restorer.modules())
    assert hooks == 0
    host.cancelled = True
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        restore(photo, model)
    assert type(caught.value).__name__ == "Cancelled"


def test_a_shared_workflow_opens_where_its_backend_cannot_run(nodes: dict[str, Any], caplog: Any) -> None:
    loader = nodes["QuantFace_LoadModel"]
    model = loader.execute(model="quantface-mini-w4a4", precision="auto", backend="triton").args[0]
    assert "triton cannot run here" in caplog.text
    layers = [layer for layer in model.restorer.modules() if hasattr(layer, "packed")]
    assert layers
    assert not any("triton" in type(layer.kernel()).__module__ for layer in layers)


def test_choices_tell_what_they_take_and_old_marks_still_load(nodes: dict[str, Any]) -> None:
    loader = nodes["QuantFace_LoadModel"]
    options = loader.define_schema().inputs[0].options["options"]
    assert options[:2] == ["quantface-mini-w4a4 (bundled)", "quantface-mini (bundled)"]
    assert loader.validate_inputs(model="quantface-mini-w4a4 (fetch)") is True
    fingerprint = loader.fingerprint_inputs(model="quantface-mini-w4a4 (bundled)")
    assert fingerprint == loader.fingerprint_inputs(model="quantface-mini-w4a4 (local)")
    assert fingerprint != loader.fingerprint_inputs(model="quantface-mini (bundled)")


def test_the_library_fetches_into_the_host_s_models_folder(
    pack: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QUANTFACE_MODELS_DIR")
    asyncio.run(pack.comfy_entrypoint())
    assert os.environ["QUANTFACE_MODELS_DIR"] == str(host.models / "quantface")


def test_the_users_own_models_folder_comes_first(
    pack: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As extra_model_paths.yaml names it, before any pack is loaded."""
    monkeypatch.delenv("QUANTFACE_MODELS_DIR")
    host.folders["quantface"] = (["/elsewhere"], set())
    asyncio.run(pack.comfy_entrypoint())
    assert os.environ["QUANTFACE_MODELS_DIR"] == "/elsewhere"
    assert host.folders["quantface"][0] == ["/elsewhere", str(host.models / "quantface")]


def test_a_missing_requirement_is_told_at_the_start(host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))
    spec = importlib.util.spec_from_file_location(
        "packed", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec
    assert spec.loader
    monkeypatch.setitem(sys.modules, "packed", importlib.util.module_from_spec(spec))
    with pytest.raises(ImportError, match=r"peft: .*-m pip install -r .*requirements\.txt"):
        spec.loader.exec_module(sys.modules["packed"])
