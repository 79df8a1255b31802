"""The pack in a real ComfyUI: its workflows, validation, cancel and memory. Runs when COMFYUI_PATH is set."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.nodes.comfyui import ComfyUI

_CANCELS_IN = 3.0  # seconds, with room for a busy machine
_WHOLE = 3600  # seconds, on an old processor
_GROWTH = 50  # MB over the runs
_RUNS = 20


def test_the_pack_starts_without_warnings(server: ComfyUI) -> None:
    log = server.log.read_text()
    line = next(line for line in log.splitlines() if line.rstrip().endswith("custom_nodes/QuantFace"))
    assert "FAILED" not in line
    assert "quantface" not in log.lower().replace(line.lower(), "")


@pytest.mark.parametrize(
    "name", ["Restore a photo", "Restore an old photo", "Upscale and restore", "Treat faces by other nodes"]
)
def test_a_workflow_runs(server: ComfyUI, name: str) -> None:
    outputs = server.run(server.workflow(name))
    assert any("quantface_after" in output for output in outputs.values())
    listed = [(key, item) for output in outputs.values() for key, items in output.items() for item in items]
    results = {key for key, item in listed if isinstance(item, dict)}  # as the page takes them
    assert results == {"images", "quantface_after"}


def test_a_video_is_restored_and_saved(server: ComfyUI) -> None:
    outputs = server.run(server.workflow("Restore a video", smoothing=0.0))
    shown = {output["images"][0]["type"]: output["images"][0]["filename"] for output in outputs.values()}
    assert shown.keys() == {"temp", "output"}
    assert shown["temp"].endswith(".mp4")
    assert not list((server.base / "temp").glob("quantface-*"))


def test_a_first_run_restores_a_face(server: ComfyUI) -> None:
    """Of what the pack put into the input folder, with nothing chosen."""
    outputs = server.run(server.workflow("Restore a photo"))
    (report,) = (output["text"][0] for output in outputs.values() if "text" in output)
    assert "1 of 1 faces restored" in report


@pytest.mark.skipif("COMFYUI_SLOW" not in os.environ, reason="minutes: set COMFYUI_SLOW")
def test_a_model_is_quantized_trained_saved_and_compared(server: ComfyUI) -> None:
    given = server.workflow("Your own 4-bit model", count=2, steps=2, metric="ssim", name="trial")
    outputs = server.run(given, _WHOLE)
    assert any("quantface_bits" in output for output in outputs.values())
    assert (server.base / "models" / "quantface" / "trial.safetensors").is_file()


WRONG = [
    ("Restore a photo", "model", "gone.safetensors", "not in models/quantface"),
    ("Your own 4-bit model", "limits", "vae=9", "limits: "),
    ("Your own 4-bit model", "name", "../evil", "use only letters"),
]


@pytest.mark.parametrize(("workflow", "name", "value", "told"), WRONG, ids=lambda value: str(value)[:12])
def test_a_wrong_input_is_marked_once(server: ComfyUI, workflow: str, name: str, value: str, told: str) -> None:
    refused = server.post("/prompt", {"prompt": server.workflow(workflow, **{name: value})})
    server.clear()
    assert refused["node_errors"]
    for node in refused["node_errors"].values():
        (error,) = node["errors"]
        assert error["extra_info"]["input_name"] == name
        assert told in error["details"]


def test_positions_are_an_error_only_where_they_are_used(server: ComfyUI) -> None:
    wrong = {"image": "three.png", "positions": "first"}
    refused = server.post("/prompt", {"prompt": server.workflow("Restore a photo", **wrong, faces="positions")})
    server.clear()
    ((*_, error),) = ([*node["errors"]] for node in refused["node_errors"].values())
    assert "positions 'first': give whole numbers" in error["details"]
    outputs = server.run(server.workflow("Restore a photo", **wrong, faces="largest"))
    ((notes,),) = (output["quantface_notes"] for output in outputs.values() if "quantface_notes" in output)
    assert "positions first has no effect: faces is largest" in notes


def test_a_name_that_is_taken_is_told_before_the_work(server: ComfyUI) -> None:
    (server.base / "models" / "quantface" / "taken.safetensors").touch()
    given = server.workflow("Your own 4-bit model", count=4, name="taken", overwrite=False)
    history = server.finished(server.queue(given), 30)
    failed = dict(history["status"]["messages"])["execution_error"]
    assert failed["node_type"] == "QuantFace_SaveModel"
    assert "taken.safetensors exists" in failed["exception_message"]
    assert failed["executed"] == []
    (server.base / "models" / "quantface" / "taken.safetensors").unlink()


def test_cancel_is_quick_and_the_next_run_works(server: ComfyUI) -> None:
    number = server.queue(server.workflow("Your own 4-bit model", count=4))
    time.sleep(6)  # into the measurement
    start = time.monotonic()
    server.post("/interrupt", {})
    history = server.finished(number, 60)
    assert time.monotonic() - start < _CANCELS_IN
    assert any(kind == "execution_interrupted" for kind, _ in history["status"]["messages"])
    server.run(server.workflow("Restore a photo", strength=0.9))


def _training(server: ComfyUI, seed: int) -> dict[str, Any]:
    """A prompt that trains the bundled 4-bit model's branches for hours."""
    given = server.workflow("Your own 4-bit model", steps=100_000, count=8, rank=0, seed=seed)
    distill = next(node for node in given.values() if node["class_type"] == "QuantFace_QDLoRADistill")
    loader = next(node for node in given.values() if node["class_type"] == "QuantFace_LoadModel")
    low = {**loader, "inputs": {**loader["inputs"], "model": "quantface-mini-w4a4 (bundled)"}}
    distill["inputs"] |= {"teacher": ["1", 0], "fr_model": ["2", 0], "folder": ""}
    picture = {"class_type": "PreviewImage", "inputs": {"images": ["3", 1]}}
    return {"1": loader, "2": low, "3": distill, "4": picture}


def test_training_is_cancelled_at_once_and_leaves_no_memory(server: ComfyUI) -> None:
    server.run(server.workflow("Restore a photo", strength=0.3))
    before = server.memory()
    for seed in range(3):
        number = server.queue(_training(server, seed))
        time.sleep(8)  # into the training
        start = time.monotonic()
        server.post("/interrupt", {})
        history = server.finished(number, 60)
        assert time.monotonic() - start < _CANCELS_IN
        messages = dict(history["status"]["messages"])
        assert messages["execution_interrupted"]["node_type"] == "QuantFace_QDLoRADistill"
    server.run(server.workflow("Restore a photo", strength=0.4))  # the host forgets the error when it goes on
    assert server.memory() - before < 3 * _GROWTH  # the second model has come, and training's libraries


def test_memory_stays_flat(server: ComfyUI) -> None:
    for run in range(3):
        server.run(server.workflow("Restore a photo", strength=0.5 + run / 100))
    before = server.memory()
    for run in range(_RUNS):
        server.run(server.workflow("Restore a photo", strength=0.6 + run / 100))
    assert server.memory() - before < _GROWTH


def test_switching_models_keeps_one(server: ComfyUI) -> None:
    names = ["quantface-mini (bundled)", "quantface-mini-w4a4 (bundled)"]
    for model in names:
        server.run(server.workflow("Restore a photo", model=model))
    before = server.memory()
    for run in range(10):
        server.run(server.workflow("Restore a photo", model=names[run % 2]))
    assert server.memory() - before < _GROWTH


def _preview_of_crops(server: ComfyUI, **changes: Any) -> dict[str, Any]:
    """Restore a photo, and save the restored faces too."""
    prompt = server.workflow("Restore a photo", **changes)
    node = next(number for number, n in prompt.items() if n["class_type"] == "QuantFace_RestoreFace")
    prompt["90"] = {"class_type": "SaveImage", "inputs": {"images": [node, 1], "filename_prefix": "crops"}}
    return prompt


def test_without_a_face_no_picture_of_one_is_saved(server: ComfyUI) -> None:
    saved = server.base / "output"
    server.run(_preview_of_crops(server, min_confidence=1.0))
    assert not list(saved.glob("crops*"))
    server.run(_preview_of_crops(server, min_confidence=0.7))
    assert len(list(saved.glob("crops*"))) == 1


def test_the_mask_of_an_opaque_photo_is_told(server: ComfyUI) -> None:
    prompt = server.workflow("Restore a photo")
    node = next(n for n in prompt.values() if n["class_type"] == "QuantFace_RestoreFace")
    node["inputs"]["mask"] = [node["inputs"]["image"][0], 1]
    outputs = server.run(prompt)
    ((notes,),) = (output["quantface_notes"] for output in outputs.values() if "quantface_notes" in output)
    assert notes[0].startswith("mask is black all over")


def test_a_position_beyond_the_faces_is_an_error_that_names_the_range(server: ComfyUI) -> None:
    number = server.queue(server.workflow("Restore a photo", image="three.png", faces="positions", positions="3"))
    status = server.finished(number)["status"]
    assert dict(status["messages"])["execution_error"]["exception_message"].strip() == (
        "positions 3: there are faces 0 to 2"
    )


@pytest.mark.parametrize("output", [5, 6], ids=["boxes", "segs"])
def test_cropped_faces_are_named_to_the_next_node(server: ComfyUI, output: int) -> None:
    prompt = server.workflow("Restore a photo", image="three.png")
    node = next(n for n in prompt.values() if n["class_type"] == "QuantFace_RestoreFace")
    find = {"faces": "positions", "positions": "0,2", "order": "left-to-right", "min_confidence": 0.7, "min_size": 0}
    cut = {"image": node["inputs"]["image"], "size": 128, "smoothing": 0.0, **find}
    prompt["90"] = {"class_type": "QuantFace_CropFaces", "inputs": cut}
    node["inputs"]["boxes"] = ["90", output]
    outputs = server.run(prompt)
    (report,) = (output["text"][0] for output in outputs.values() if "text" in output)
    assert "image 0: 0 of 2 faces restored" in report  # both are sharp
    assert len(outputs["90"]["images"]) == 1  # the numbered picture


def test_a_picture_without_a_face_is_passed_on_by_the_pair(server: ComfyUI) -> None:
    """Though no crop is treated: the host is not asked for one."""
    portrait = Image.open(server.base / "input" / "quantface_portrait.jpg")
    portrait.save(server.base / "input" / "portrait.png")  # hosts decode JPEG each in its own way
    outputs = server.run(server.workflow("Treat faces by other nodes", image="portrait.png", min_confidence=1.0))
    pictures = [picture for output in outputs.values() for picture in output.get("images", [])]
    (saved,) = (picture for picture in pictures if picture["type"] == "output")
    paths = Path("output", saved["subfolder"], saved["filename"]), Path("input", "portrait.png")
    made, given = (np.asarray(Image.open(server.base / path)) for path in paths)
    assert np.array_equal(made, given)


def _pair(order: tuple[str, str]) -> dict[str, Any]:
    """The pair of nodes for a list of two pictures: a portrait, of node 1, and a black one, of node 2."""
    first, second = ([number, 0] for number in order)
    find = {"faces": "all", "positions": "0", "order": "left-to-right", "min_confidence": 0.7, "min_size": 0}
    cut = {"image": ["4", 0], "size": 128, "smoothing": 0.0, **find}
    put = {"face_crops": ["5", 1], "crops": ["5", 0], "strength": 1.0, "color": "none", "feather": 0.32}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "quantface_portrait.jpg"}},
        "2": {"class_type": "EmptyImage", "inputs": {"width": 512, "height": 512, "batch_size": 1, "color": 0}},
        "3": {"class_type": "ImageBatch", "inputs": {"image1": first, "image2": second}},
        "4": {"class_type": "RebatchImages", "inputs": {"images": ["3", 0], "batch_size": 1}},
        "5": {"class_type": "QuantFace_CropFaces", "inputs": cut},
        "6": {"class_type": "QuantFace_PasteFaces", "inputs": put},
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
    }


@pytest.mark.parametrize("order", [("1", "2"), ("2", "1")], ids=["face first", "none first"])
def test_the_pair_loses_no_picture_of_a_list(server: ComfyUI, order: tuple[str, str]) -> None:
    outputs = server.run(_pair(order))
    assert len(outputs["5"]["images"]) == 2
    assert len(outputs["7"]["images"]) == 2
