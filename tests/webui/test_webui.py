"""The extension in a real AUTOMATIC1111 or Forge: its API route, Restore faces, Extras in a browser, memory.

Runs when WEBUI_PATH and WEBUI_PYTHON are set: see `webui.py`. WEBUI_SHOTS, if set, is a folder for screenshots.
"""

from __future__ import annotations

import base64
import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.webui.webui import WebUI

_NEAR = 2  # of 255: the same torch, another process
_GROWTH = 50  # MB over the runs
_RUNS = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[WebUI]:
    if not {"WEBUI_PATH", "WEBUI_PYTHON"} <= set(os.environ):
        pytest.skip("needs WEBUI_PATH, a checkout of AUTOMATIC1111's WebUI or of Forge, and WEBUI_PYTHON, its Python")
    base = tmp_path_factory.mktemp("webui")
    running = WebUI(Path(os.environ["WEBUI_PATH"]), base, photos / "nasa_astronaut.png")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def expected(server: WebUI, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What `quantface restore` makes of the photo, by the same Python."""
    target = tmp_path_factory.mktemp("command") / "restored.png"
    server.command("restore", str(photos / "nasa_astronaut.png"), "--output", str(target))
    return np.array(Image.open(target).convert("RGB")).astype(int)


def image_of(text: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")).astype(int)


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.fixture(scope="module")
def photo(photos: Path) -> str:
    return encoded(photos / "nasa_astronaut.png")


def test_it_starts_without_a_word(server: WebUI) -> None:
    for line in server.log.read_text().splitlines():
        assert "quantface" not in line.lower() or line.startswith("Launching Web UI with arguments"), line
    assert "QuantFace" in [restorer["name"] for restorer in server.get("/sdapi/v1/face-restorers")]


def test_the_route_gives_the_command_s_faces(server: WebUI, photo: str, expected: np.ndarray) -> None:
    status, answer = server.post("/quantface/restore", {"image": photo})
    assert (status, answer["restored"]) == (200, [0])
    assert abs(image_of(answer["image"]) - expected).max() <= _NEAR


def test_no_face_is_no_error(server: WebUI) -> None:
    file = io.BytesIO()
    Image.new("RGB", (96, 96), "gray").save(file, "PNG")
    status, answer = server.post("/quantface/restore", {"image": base64.b64encode(file.getvalue()).decode()})
    assert (status, answer["faces"], answer["restored"]) == (200, [], [])


@pytest.mark.parametrize(
    ("changed", "status", "message"),
    [
        ({"model": "gone"}, 404, "no model 'gone'"),
        ({"strength": 2}, 422, "strength is auto"),
        ({"image": "AAAA"}, 400, "no picture"),
    ],
)
def test_bad_input_is_one_line(server: WebUI, photo: str, changed: dict[str, Any], status: int, message: str) -> None:
    code, answer = server.post("/quantface/restore", {"image": photo, **changed})
    assert code == status
    assert message in answer["detail"]
    assert "\n" not in answer["detail"]


def test_restore_faces_gives_the_command_s_faces(server: WebUI, photo: str, expected: np.ndarray) -> None:
    _, answer = server.post("/test/restore_faces", {"image": photo, "options": {}})
    assert abs(image_of(answer["image"]) - expected).max() <= _NEAR


def test_restore_faces_leaves_the_picture_on_an_error(server: WebUI, photo: str) -> None:
    _, answer = server.post("/test/restore_faces", {"image": photo, "options": {"quantface_model": "gone"}})
    assert (image_of(answer["image"]) == image_of(photo)).all()
    assert "no model 'gone'" in server.log.read_text()


@pytest.mark.parametrize("route", ["txt2img", "img2img"])
def test_a_generated_picture_s_faces(server: WebUI, photo: str, expected: np.ndarray, route: str) -> None:
    if server.is_forge:
        pytest.skip("Forge generates nothing without a checkpoint")
    request = {
        "prompt": "the photo", "steps": 1, "width": 64, "height": 64, "restore_faces": True,
        "override_settings": {"face_restoration_model": "QuantFace", "quantface_seed": -1},
    }  # fmt: skip
    status, answer = server.post(f"/sdapi/v1/{route}", {**request, "init_images": [photo]})
    assert status == 200
    # The host cuts its floats off to bytes.
    assert abs(image_of(answer["images"][0]) - expected).max() <= 1 + _NEAR
    assert "Face restoration: QuantFace" in answer["info"]
    assert "QuantFace model: quantface-mini-w4a4" in answer["info"]


def test_the_host_s_own_route_leaves_us_off(server: WebUI, photo: str) -> None:
    request = {"image": photo, "upscaling_resize": 1, "upscaler_1": "None"}
    status, answer = server.post("/sdapi/v1/extra-single-image", request)
    assert status == 200
    assert (image_of(answer["image"]) == image_of(photo)).all()


def test_interrupt_ends_a_picture_of_many_faces(server: WebUI, photos: Path) -> None:
    request = {"image": encoded(photos / "solvay_1927_group.jpg")}
    answers: list[tuple[int, Any]] = []
    work = threading.Thread(target=lambda: answers.append(server.post("/quantface/restore", request)))
    work.start()
    end = time.monotonic() + 300
    while server.get("/sdapi/v1/progress")["state"]["sampling_steps"] < 2 and time.monotonic() < end:
        time.sleep(0.2)
    server.post("/sdapi/v1/interrupt", {})
    work.join(300)
    assert answers == [(409, {"detail": "interrupted"})]


def test_memory_stays_flat(server: WebUI, photo: str) -> None:
    for _ in range(2):
        server.post("/quantface/restore", {"image": photo})
    before = server.memory()
    for _ in range(_RUNS):
        server.post("/quantface/restore", {"image": photo})
    assert server.memory() - before < _GROWTH


class TestExtras:
    """The tab, in headless Chromium."""

    @pytest.fixture(scope="class")
    def page(self, server: WebUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
        from tests.nodes.page import chromium

        driver = pytest.importorskip("playwright.sync_api", reason="needs playwright")
        if chromium() is None:
            pytest.skip("needs a Chromium: on PATH, or named by CHROMIUM")
        shots = Path(os.environ.get("WEBUI_SHOTS") or tmp_path_factory.mktemp("shots"))
        with driver.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 1100})
            page.set_default_timeout(600_000)
            page.goto(f"{server.address}/?__theme=dark", wait_until="domcontentloaded")
            page.locator("#tabs button").filter(has_text="Extras").first.click()
            page.locator("#quantface_read").wait_for(state="attached")
            yield page, shots
            browser.close()

    def generate(self, page: Any) -> str:
        """Press Generate; what is told beneath the result."""
        page.locator("#extras_generate").first.click()
        page.locator("#html_log_extras .performance").first.wait_for()
        page.locator("#extras_gallery img").first.wait_for()
        told = page.locator("#html_info_extras").first
        told.filter(has_text="QuantFace").wait_for()  # it comes a moment after the picture
        return str(told.inner_text())

    def test_one_picture(self, server: WebUI, page: Any, photos: Path, expected: np.ndarray) -> None:
        page, shots = page
        page.locator("#extras_image input[type=file]").first.set_input_files(str(photos / "nasa_astronaut.png"))
        page.locator("#extras_image img").first.wait_for()
        page.locator(".input-accordion").filter(has_text="QuantFace").first.locator(".label-wrap").first.click()
        told = self.generate(page)
        page.wait_for_timeout(2000)
        page.screenshot(path=str(shots / f"{'forge' if server.is_forge else 'a1111'}_extras.png"), full_page=True)
        assert "QuantFace model: quantface-mini-w4a4" in told
        assert "QuantFace restored: 1 of 1 faces" in told
        [saved] = server.base.rglob("extras-images/**/*.png")
        assert "QuantFace model" in str(Image.open(saved).info)
        # The tab's upscaler is on, at 4 times, and enlarges nothing as long as it is "None".
        assert abs(np.array(Image.open(saved).convert("RGB")).astype(int) - expected).max() <= _NEAR
