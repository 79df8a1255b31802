"""The extension in a real AUTOMATIC1111 or Forge: its API route, Restore faces, interruption, memory.

Runs when WEBUI_PATH and WEBUI_PYTHON are set: see `webui.py`; `test_page.py` works its page.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.published import FILES
from tests.webui.webui import WebUI, decoded, encoded

_NEAR = 2  # of 255: the same torch, another process
_GROWTH = 50  # MB over the runs
_RUNS = 10


@pytest.fixture(scope="module")
def photo(photos: Path) -> str:
    return encoded(photos / "nasa_astronaut.png")


def test_it_starts_without_a_word(hosted: WebUI) -> None:
    for line in hosted.greeting.splitlines():
        assert "quantface" not in line.lower() or line.startswith("Launching Web UI with arguments"), line
    assert "QuantFace" in [restorer["name"] for restorer in hosted.get("/sdapi/v1/face-restorers")]


def test_the_route_gives_the_command_s_faces(hosted: WebUI, photo: str, commanded: np.ndarray) -> None:
    status, answer = hosted.post("/quantface/restore", {"image": photo})
    assert (status, answer["restored"]) == (200, [0])
    assert abs(decoded(answer["image"]) - commanded).max() <= _NEAR


def test_no_face_is_no_error(hosted: WebUI) -> None:
    file = io.BytesIO()
    Image.new("RGB", (96, 96), "gray").save(file, "PNG")
    status, answer = hosted.post("/quantface/restore", {"image": base64.b64encode(file.getvalue()).decode()})
    assert (status, answer["faces"], answer["restored"]) == (200, [], [])


@pytest.mark.parametrize(
    ("changed", "status", "message"),
    [
        ({"model": "gone"}, 404, "no model 'gone'"),
        ({"strength": 2}, 422, "strength must be auto"),
        ({"image": "AAAA"}, 400, "not a picture"),
    ],
)
def test_bad_input_is_one_line(hosted: WebUI, photo: str, changed: dict[str, Any], status: int, message: str) -> None:
    code, answer = hosted.post("/quantface/restore", {"image": photo, **changed})
    assert code == status
    assert message in answer["detail"]
    assert "\n" not in answer["detail"]


def test_restore_faces_gives_the_command_s_faces(hosted: WebUI, photo: str, commanded: np.ndarray) -> None:
    _, answer = hosted.post("/test/restore_faces", {"image": photo, "options": {}})
    assert abs(decoded(answer["image"]) - commanded).max() <= _NEAR


def test_restore_faces_leaves_the_picture_on_an_error(hosted: WebUI, photo: str) -> None:
    _, answer = hosted.post("/test/restore_faces", {"image": photo, "options": {"quantface_model": "gone"}})
    assert (decoded(answer["image"]) == decoded(photo)).all()
    assert "no model 'gone'" in hosted.log.read_text()


@pytest.mark.parametrize("route", ["txt2img", "img2img"])
def test_a_generated_picture_s_faces(hosted: WebUI, photo: str, commanded: np.ndarray, route: str) -> None:
    if hosted.is_forge:
        pytest.skip("Forge generates nothing without a checkpoint")
    request = {
        "prompt": "the photo", "steps": 1, "width": 64, "height": 64, "restore_faces": True,
        "override_settings": {"face_restoration_model": "QuantFace", "quantface_seed": -1},
    }  # fmt: skip
    status, answer = hosted.post(f"/sdapi/v1/{route}", {**request, "init_images": [photo]})
    assert status == 200
    # The host cuts its floats off to bytes.
    assert abs(decoded(answer["images"][0]) - commanded).max() <= 1 + _NEAR
    assert "Face restoration: QuantFace" in answer["info"]
    assert "QuantFace model: quantface-mini-w4a4" in answer["info"]


def test_a_plot_of_settings(hosted: WebUI, photo: str) -> None:
    if hosted.is_forge:
        pytest.skip("Forge generates nothing without a checkpoint")
    scripts = hosted.get("/sdapi/v1/script-info")
    (plot,) = (script for script in scripts if script["name"] == "x/y/z plot" and not script["is_img2img"])
    kinds = plot["args"][0]["choices"]
    axes = ("QuantFace visibility", "0, 1"), ("QuantFace strength", "auto, 1"), ("Nothing", "")
    chosen = [value for kind, values in axes for value in (kinds.index(kind), values, [])]
    request = {
        "prompt": "the photo", "steps": 1, "width": 64, "height": 64, "script_name": plot["name"],
        "script_args": [*chosen, False, True, False, False, False, False, False, 0, True],
    }  # fmt: skip
    status, answer = hosted.post("/sdapi/v1/txt2img", request)
    assert status == 200, answer
    cells = json.loads(answer["info"])["infotexts"][1:]  # the first is the grid's
    assert all("Face restoration: QuantFace" in text for text in cells)
    told = [("QuantFace visibility: 0.0" in text, "QuantFace strength: 1.0" in text) for text in cells]
    assert told == [(True, False), (False, False), (True, True), (False, True)]
    before, whole = decoded(photo), decoded(answer["images"][-1])
    assert (decoded(answer["images"][1]) == before).all()
    assert abs(whole - before).max() > _NEAR


@pytest.mark.parametrize(("architecture", "place"), [("GFPGAN", "GFPGAN"), ("CodeFormer", "Codeformer")])
def test_the_host_s_own_face_restorers(hosted: WebUI, photo: str, photos: Path, architecture: str, place: str) -> None:
    """Published files of random weights, where the host has its own; by the spandrel that the host brings.

    They are of full size, for older ones know no other; and another process writes them, where no class is narrow.
    """
    file = hosted.base / "models" / place / FILES[architecture]
    code = f"""from pathlib import Path
from tests.published import needs_spandrel, network, write
needs_spandrel()
write(network({architecture!r}), {architecture!r}, Path({str(file.parent)!r}))
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
    # By an old torch, as they are published: A1111 takes what new ones write for unsafe.
    again = "import sys, torch; torch.save(torch.load(sys.argv[1]), sys.argv[1])"
    subprocess.run([hosted.python, "-c", again, str(file)], check=True)
    assert f"{place}/{file.name}" in hosted.get("/quantface/models")["models"]
    request = {"image": photo, "model": f"{place}/{file.name}", "strength": 1.0}
    status, answer = hosted.post("/quantface/restore", request)
    assert (status, answer.get("restored")) == (200, [0]), answer
    restored = decoded(answer["image"])
    assert abs(restored - decoded(photo)).max() > 50
    commanded = hosted.restored(photos / "nasa_astronaut.png", "--model", str(file), "--strength", "1")
    assert abs(restored - commanded).max() <= _NEAR


def test_the_host_s_own_route_leaves_us_off(hosted: WebUI, photo: str) -> None:
    request = {"image": photo, "upscaling_resize": 1, "upscaler_1": "None"}
    status, answer = hosted.post("/sdapi/v1/extra-single-image", request)
    assert status == 200
    assert (decoded(answer["image"]) == decoded(photo)).all()


def test_interrupt_ends_a_picture_of_many_faces(hosted: WebUI, photos: Path) -> None:
    request = {"image": encoded(photos / "solvay_1927_group.jpg")}
    answers: list[tuple[int, Any]] = []
    work = threading.Thread(target=lambda: answers.append(hosted.post("/quantface/restore", request)))
    work.start()
    end = time.monotonic() + 300
    while hosted.get("/sdapi/v1/progress")["state"]["sampling_steps"] < 2 and time.monotonic() < end:
        time.sleep(0.2)
    hosted.post("/sdapi/v1/interrupt", {})
    work.join(300)
    assert answers == [(409, {"detail": "interrupted"})]


def test_memory_stays_flat(hosted: WebUI, photo: str) -> None:
    for _ in range(2):
        hosted.post("/quantface/restore", {"image": photo})
    before = hosted.memory()
    for _ in range(_RUNS):
        hosted.post("/quantface/restore", {"image": photo})
    assert hosted.memory() - before < _GROWTH
