"""The pack in a real ComfyUI: its workflows, validation, cancel and memory. Runs when COMFYUI_PATH is set."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("comfyui", Path(__file__).with_name("comfyui.py"))
assert _spec
assert _spec.loader
comfyui = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(comfyui)

pytestmark = pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="needs COMFYUI_PATH, a ComfyUI checkout")
_CANCELS_IN = 3.0  # seconds, with room for a busy machine
_GROWTH = 50  # MB over the runs
_RUNS = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[Any]:
    base = tmp_path_factory.mktemp("comfyui")
    (base / "input").mkdir()
    photo = cv2.imread(str(photos / "nasa_astronaut.png"))
    cv2.imwrite(str(base / "input" / "example.png"), photo)
    video = cv2.VideoWriter(str(base / "input" / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 8, (512, 512))
    for shift in range(3):
        video.write(np.roll(photo, 2 * shift, axis=1))
    video.release()
    running = comfyui.ComfyUI(Path(os.environ["COMFYUI_PATH"]), base)
    yield running
    running.stop()


def workflow(server: Any, name: str, **changes: Any) -> dict[str, Any]:
    """A shipped workflow as a prompt, widgets of these names changed."""
    prompt: dict[str, Any] = server.prompt_of(json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8")))
    for node in prompt.values():
        node["inputs"] |= {k: v for k, v in changes.items() if k in node["inputs"]}
    return prompt


def test_the_pack_starts_fast_and_without_warnings(server: Any) -> None:
    log = server.log.read_text()
    line = next(line for line in log.splitlines() if line.rstrip().endswith("custom_nodes/QuantFace"))
    assert "FAILED" not in line
    assert float(line.split()[0]) < 1
    assert "quantface" not in log.lower().replace(line.lower(), "")


@pytest.mark.parametrize("name", ["restore_photo", "upscale_and_restore", "restore_video_frames"])
def test_a_workflow_runs(server: Any, name: str) -> None:
    outputs = server.run(workflow(server, name))
    assert any("quantface_after" in output for output in outputs.values())


@pytest.mark.skipif("COMFYUI_SLOW" not in os.environ, reason="minutes: set COMFYUI_SLOW")
def test_a_model_is_quantized_trained_saved_and_compared(server: Any) -> None:
    outputs = server.run(workflow(server, "quantize_your_own", count=2, steps=2, metric="ssim", name="trial"))
    assert any("quantface_bits" in output for output in outputs.values())
    assert (server.base / "models" / "quantface" / "trial.safetensors").is_file()


def test_a_wrong_input_is_named(server: Any) -> None:
    prompt = workflow(server, "restore_photo", positions="first", faces="positions")
    refused = json.dumps(server.post("/prompt", {"prompt": prompt}))
    assert "positions 'first': give whole numbers" in refused


def test_cancel_is_quick_and_the_next_run_works(server: Any) -> None:
    number = server.queue(workflow(server, "quantize_your_own", count=4))
    time.sleep(6)  # into the measurement
    start = time.monotonic()
    server.post("/interrupt", {})
    history = server.finished(number, 60)
    assert time.monotonic() - start < _CANCELS_IN
    assert any(kind == "execution_interrupted" for kind, _ in history["status"]["messages"])
    server.run(workflow(server, "restore_photo", strength=0.9))


def test_memory_stays_flat(server: Any) -> None:
    for run in range(3):
        server.run(workflow(server, "restore_photo", strength=0.5 + run / 100))
    before = server.memory()
    for run in range(_RUNS):
        server.run(workflow(server, "restore_photo", strength=0.6 + run / 100))
    assert server.memory() - before < _GROWTH


def test_switching_models_keeps_one(server: Any) -> None:
    names = ["quantface-mini (bundled)", "quantface-mini-w4a4 (bundled)"]
    for model in names:
        server.run(workflow(server, "restore_photo", model=model))
    before = server.memory()
    for run in range(10):
        server.run(workflow(server, "restore_photo", model=names[run % 2]))
    assert server.memory() - before < _GROWTH
