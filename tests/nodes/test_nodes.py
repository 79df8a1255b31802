"""The nodes against the stand-in: their schemas, and what they do with pictures."""

from __future__ import annotations

import ast
import asyncio
import importlib
import importlib.util
import inspect
import os
import re
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
    "min_confidence": 0.7, "min_size": 0, "feather": 0.32, "smoothing": 0.0, "batch_size": 0, "blend": "strength",
    "seed": -1,
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


def test_the_slider_shows_a_huge_picture_at_a_screen_s_size(restore: Any) -> None:
    gray = torch.full((1, 3000, 64, 3), 0.3)
    picture, *_, ui = restore(gray)
    assert picture.shape == gray.shape
    for shown in (ui["quantface_before"], ui["quantface_after"]):
        assert shown[0].shape == (2048, 44, 3)


def test_a_seed_draws_and_none_does_not(restore: Any, load: Any, photo: torch.Tensor) -> None:
    model = load()
    steady, first, again, other = (restore(photo, model, seed=seed)[0] for seed in (-1, 3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, steady)


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
    picture, crops, changed, report, ui = restore(gray)
    assert torch.equal(picture, gray)
    assert type(crops).__name__ == "ExecutionBlocker"  # no black picture that Save Image would save
    assert crops.message is None
    assert not changed.any()
    assert report.splitlines()[2] == "picture 1: 0 of 0 faces restored"
    assert ui["quantface_notes"] == ["no face was found: lower min_confidence, or mark faces with face_mask"]


def test_bad_input_is_named(nodes: dict[str, Any], restore: Any) -> None:
    node, loader, save = (nodes[f"QuantFace_{n}"] for n in ("RestoreFace", "LoadModel", "SaveModel"))
    for fine in ("0, 2", "0,2,", "0-3", "", None):
        assert node.validate_inputs(positions=fine) is True
    assert "whole numbers" in node.validate_inputs(positions="x")
    assert "not in models/quantface" in loader.validate_inputs(model="gone.safetensors")
    assert "letters" in save.validate_inputs(name="../../evil")
    assert "another model" in save.validate_inputs(name="quantface-mini")
    with pytest.raises(Exception, match="precision 'fp16': one of auto"):  # as another node may give it
        loader.execute(model="quantface-mini", precision="fp16", backend="auto")
    assert loader.fingerprint_inputs(model=None) == loader.fingerprint_inputs()  # given by another node
    for name in ("CalibrateBalance", "QDLoRADistill", "CompareModels"):
        assert "no such folder" in nodes[f"QuantFace_{name}"].validate_inputs(folder="nowhere")
        assert nodes[f"QuantFace_{name}"].validate_inputs(folder=None) is True  # given by another node
    assert "limits" in nodes["QuantFace_AllocateBits"].validate_inputs(limits="vae.decoder=9")
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


def test_a_black_mask_is_seen_before_the_work(
    restore: Any, load: Any, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Load Image gives for a photo without transparency."""
    model = load()
    monkeypatch.setattr(type(model), "ready", lambda *_: pytest.fail("brought to the device"))
    detector = "custom_nodes_quantface.quantface_core.faces.detect.FaceDetector"
    monkeypatch.setattr(f"{detector}.__call__", lambda *_: pytest.fail("looked for faces"))
    dark = torch.zeros(1, 64, 64)
    picture, crops, changed, report, ui = restore(photo, model, mask=dark)
    assert torch.equal(picture, photo)
    assert not changed.any()
    assert type(crops).__name__ == "ExecutionBlocker"
    assert report.startswith("mask is black all over")
    assert ui["quantface_notes"] == [report.splitlines()[0]]
    assert restore(photo, model, mask=dark, upscale="2")[0].shape == (1, 1024, 1024, 3)


def test_frames_whose_mask_is_black_are_left_out(restore: Any, photo: torch.Tensor) -> None:
    masks = torch.stack([torch.zeros(64, 64), torch.ones(64, 64)])
    picture, crops, changed, report, ui = restore(torch.cat([photo, photo]), mask=masks)
    assert torch.equal(picture[0], photo[0])
    assert changed[1].any()
    assert len(crops) == 1
    assert "picture 0: its mask is black" in report
    assert ui["quantface_notes"] == []


def test_what_marks_no_face_is_told(restore: Any, photo: torch.Tensor) -> None:
    model_notes = [
        ({"mask": torch.cat([torch.zeros(1, 64, 48), torch.ones(1, 64, 16)], 2)}, "mask: no face is where it is white"),
        ({"face_mask": torch.zeros(1, 64, 64)}, "no face: nothing is marked by face_mask"),
        ({"boxes": []}, "no face: nothing is marked by boxes"),
        ({"min_confidence": 1.0}, "none of 1 faces is as sure as min_confidence"),
    ]
    for given, told in model_notes:
        picture, _, changed, report, ui = restore(photo, **given)
        assert torch.equal(picture, photo)
        assert not changed.any()
        assert report.startswith(told)
        assert len(ui["quantface_notes"]) == 1


def test_a_box_outside_is_told(restore: Any, photo: torch.Tensor) -> None:
    inside = {"x": 170, "y": 60, "width": 110, "height": 140}
    _, _, changed, report, ui = restore(photo, boxes=[inside, {**inside, "x": 5000}])
    assert changed.any()
    assert "1 of 1 faces" in report
    assert ui["quantface_notes"] == ["picture 0: 1 of 2 boxes lie outside of it"]


def test_a_position_that_no_face_has_names_the_range(restore: Any, photo: torch.Tensor) -> None:
    three = torch.cat([photo, photo, photo], dim=2)
    with pytest.raises(Exception, match="positions 7: there are faces 0 to 2"):
        restore(three, faces="positions", positions="7")
    with pytest.raises(Exception, match="positions 1: there is face 0 only"):
        restore(photo, faces="positions", positions="1")
    _, crops, _, report, ui = restore(three, faces="positions", positions="1-3,")
    assert len(crops) == 2
    assert ui["quantface_notes"] == ["positions 3: there are faces 0 to 2"]
    assert "2 of 3 faces restored" in report
    frames = torch.cat([three, torch.zeros_like(three)])  # of several pictures one may have the face
    assert "positions" not in restore(frames, faces="positions", positions="2")[3]


def test_a_sharp_face_is_left_as_it_was(restore: Any, photo: torch.Tensor) -> None:
    picture, _, _, report, _ = restore(photo, blend="auto")
    assert "left as it was: no gain expected" in report
    assert (picture - photo).abs().mean() < 1e-3
    assert "no gain expected" not in restore(photo, blend="strength")[3]


def test_a_face_is_restored_when_a_pixel_changed(restore: Any, photo: torch.Tensor) -> None:
    two = torch.cat([photo, photo.flip(2)], dim=2)
    left = torch.zeros(1, 512, 1024)
    left[..., :512] = 1
    for size in ("1", "2"):
        report = restore(two, mask=left, upscale=size)[3]
        assert "picture 0: 1 of 2 faces restored" in report
        first, second = (line.rsplit(", ", 1)[1] for line in report.splitlines()[1:])
        assert first.startswith("restored")
        assert second == "no pixel changed"
    report = restore(two, strength=0.0)[3]
    assert "0 of 2 faces restored" in report
    assert report.count("no pixel changed") == 2


def test_long_reports_are_cut(pack: Any) -> None:
    from custom_nodes_quantface.nodes.report import Report

    from quantface_core.types import Face

    face = Face((0, 0, 10, 10), ((0, 0),) * 5, 0.9)
    crowd = Report("restored")
    crowd.picture([face] * 290, range(290), range(0, 290, 2))
    lines = crowd.text().splitlines()
    assert len(lines) == 42
    assert lines[0] == "picture 0: 145 of 290 faces restored"
    assert lines[-1] == "  and 250 more, 125 of them restored"
    for number in range(30):
        crowd.note(f"note {number // 2}")
    assert crowd.shown_notes() == [*(f"note {number}" for number in range(5)), "and 10 more of such notes"]
    video = Report("restored")
    for _ in range(290):
        video.picture([face], [0], [0])
    lines = video.text().splitlines()
    assert len(lines) == 81
    assert lines[-1] == "and 250 more pictures: 250 of 250 faces restored"


def test_transparency_is_kept(restore: Any, photo: torch.Tensor) -> None:
    alpha = torch.linspace(0, 1, 512).expand(1, 512, 512)[..., None]
    picture, *_, ui = restore(torch.cat([photo, alpha], dim=-1))
    assert picture.shape == (1, 512, 512, 4)
    assert torch.equal(picture[..., 3:], alpha)
    assert not torch.equal(picture[..., :3], photo)
    assert ui["quantface_after"][0].shape[-1] == 3
    larger = restore(torch.cat([photo, alpha], dim=-1), upscale="2")[0]
    assert larger.shape == (1, 1024, 1024, 4)
    assert float((larger[0, 0, ::2, 3] - alpha[0, 0, :, 0]).abs().amax()) < 0.002
    beneath = torch.cat([photo, alpha.flip(2)], dim=-1)
    assert torch.equal(restore(photo, background=beneath)[0][..., 3:], alpha.flip(2))
    with pytest.raises(Exception, match="1, 3 or 4"):
        restore(torch.cat([photo, photo], dim=-1))


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

    model.restorer.posterior = encode
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


def test_cancel_ends_the_search_for_faces_between_two_pieces(
    restore: Any, load: Any, host: SimpleNamespace, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of which is large: tests/faces/test_detect.py."""
    detect = importlib.import_module("custom_nodes_quantface.quantface_core.faces.detect")
    calls, detected = [], detect.FaceDetector._detected

    def cancelled_meanwhile(self: Any, *given: Any) -> Any:
        calls.append(host.cancelled)
        found = detected(self, *given)
        host.cancelled = True
        return found

    monkeypatch.setattr(detect.FaceDetector, "_detected", cancelled_meanwhile)
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        restore(photo, load())
    assert type(caught.value).__name__ == "Cancelled"
    assert calls == [False, True]  # the second ends before its network runs


def test_a_huge_picture_is_worked_on_in_strips(
    restore: Any, load: Any, host: SimpleNamespace, photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is done to all of its pixels looks at the cancel button after so many."""
    model = load()
    whole = restore(photo, model)
    pictures = importlib.import_module("custom_nodes_quantface.nodes.pictures")
    checks, host.checks, strips = host.checks, 0, 64
    monkeypatch.setattr(pictures, "_STRIP", photo[0, ..., 0].numel() // strips)
    picture, _, changed, *_ = restore(photo, model)
    assert torch.equal(picture, whole[0])
    assert torch.equal(changed, whole[2])
    assert host.checks - checks >= 3 * (strips - 1)  # read for the search, read for the restorer, put together


def test_each_node_s_checks_mark_one_input(nodes: dict[str, Any]) -> None:
    """The host repeats what a check says at every input that the check takes."""
    for node in nodes.values():
        if check := getattr(node, "validate_inputs", None):
            assert len(inspect.signature(check).parameters) == 1


def test_messages_speak_of_no_command() -> None:
    """Those of the library too: nodes show them. All but what only commands say."""
    own = {"publish.py", "evaluate.py"}
    only_commands = "is not here yet: make it with `quantface build "
    commands = re.compile(r"`quantface|(^|\W)--[a-z]|\bthe command\b|QUANTFACE_[A-Z]+|(install|update) quantface")
    core = ROOT / "quantface_core"
    hosts = "".join(p.read_text("utf-8") for p in [*(ROOT / "nodes").glob("*.py"), *ROOT.glob("quantface_webui/*.py")])
    unseen = {p for p in core.glob("pipelines/*.py") if f"pipelines.{p.stem} " not in hosts}
    unseen |= {*core.glob("cli/*.py"), *core.glob("io/video/*.py")}
    sources = [p for p in core.rglob("*.py") if p.name not in own and p not in unseen]
    assert len(sources) > 60
    for path in [*sources, *(ROOT / "nodes").glob("*.py")]:
        tree = ast.parse(path.read_text("utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                said = node.value if " " in node.value else ""  # a sentence, not a name
                assert only_commands in said or not commands.search(said), f"{path}: {said}"


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
    """Neither when it is validated, nor asked for changes, nor loaded."""
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
    assert sorted(hashed) == ["mine.safetensors", "quantface-mini.safetensors"]


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


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 4, 4, 3), (1, 1, 1, 4, 4)])
def test_what_is_no_mask_is_refused(nodes: dict[str, Any], shape: tuple[int, ...]) -> None:
    as_masks = sys.modules[nodes["QuantFace_CropFaces"].__module__].as_masks
    with pytest.raises(Exception, match="masks are"):
        as_masks(torch.ones(shape))
    assert as_masks(torch.ones(2, 1, 4, 5)).shape == (2, 4, 5)
