"""The extension in the page of a real AUTOMATIC1111 or Forge, worked in headless Chromium: see `webui.py`, `page.py`.

WEBUI_SHOTS, if set, is a folder for screenshots.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from quantface_core import read_photo, repair_scratches
from quantface_core.bundled import DEMO_PRINT
from tests.nodes.page import chromium
from tests.random_originals import NARROW, SD, random_lora, random_restorer, write_originals
from tests.webui.page import Page
from tests.webui.webui import WebUI, decoded, encoded, pixels

_NEAR = 2  # of 255: the same torch, another process


@pytest.fixture(scope="module")
def page(hosted: WebUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if chromium() is None:
        pytest.skip("needs a Chromium: on PATH, or named by CHROMIUM")
    shots = Path(os.environ.get("WEBUI_SHOTS") or tmp_path_factory.mktemp("shots"))
    with driver.sync_playwright() as playwright:
        opened = Page(playwright, hosted.address, shots)
        yield opened
        opened.close()


@pytest.fixture
def extras(page: Page) -> Page:
    """The page, new, at its Extras tab."""
    page.open("Extras", "extras")
    return page


@pytest.fixture
def astronaut_file(photos: Path) -> Path:
    return photos / "nasa_astronaut.png"


class Saved:
    """What the Extras tab has saved since this was made."""

    def __init__(self, server: WebUI) -> None:
        self.server, self.before = server, set(server.saved())

    def __call__(self) -> list[Path]:
        return [path for path in self.server.saved() if path not in self.before]


def test_one_picture(hosted: WebUI, extras: Page, astronaut_file: Path, commanded: np.ndarray) -> None:
    saved = Saved(hosted)
    extras.show("#extras_image", astronaut_file)
    extras.unfold()
    extras.start()
    extras.finish()
    told = extras.told("QuantFace restored")
    extras.shot(f"{hosted.name}_extras")
    assert "QuantFace model: quantface-mini-w4a4" in told
    assert "QuantFace restored: 0 of 1 faces; 1 left as before" in told
    [file] = saved()
    assert "QuantFace model" in str(Image.open(file).info)
    # The tab's upscaler is on, at 4 times, and enlarges nothing as long as it is "None".
    assert abs(pixels(file) - commanded).max() <= _NEAR


def test_scratches_are_repaired_by_an_accordion_of_their_own(hosted: WebUI, extras: Page) -> None:
    saved = Saved(hosted)
    extras.show("#extras_image", DEMO_PRINT)
    extras.tab.locator(".input-accordion", has_text="Repair Scratches").first.locator(".label-wrap").first.click()
    extras.tab.get_by_text("draws what was there").first.wait_for()
    extras.start()
    extras.finish()
    told = extras.told("QuantFace scratches")
    extras.shot(f"{hosted.name}_scratches")
    assert "% repaired" in told
    [file] = saved()
    assert np.array_equal(pixels(file), repair_scratches(read_photo(DEMO_PRINT).pixels).pixels)


def test_settings_come_back_from_a_picture_that_was_saved(hosted: WebUI, extras: Page, astronaut_file: Path) -> None:
    saved = Saved(hosted)
    extras.show("#extras_image", astronaut_file)
    extras.unfold()
    extras.field("Automatic strength").click()
    extras.number("Strength").fill("0.4")
    extras.field("positions").click()
    extras.field("Positions from the left, such as 0,2").fill("0,2")
    extras.field("Face seed (-1: none)").fill("7")
    extras.choose("QuantFace model", "quantface-mini (")
    extras.start()
    extras.finish()
    told = extras.told("QuantFace model")
    assert "QuantFace strength: 0.4" in told
    assert "QuantFace seed: 7" in told
    [file] = saved()
    extras.open("Extras", "extras")
    extras.show("#extras_image", file)
    extras.unfold()
    extras.page.locator("#quantface_read").click()
    extras.page.wait_for_function("e => e.value === '7'", arg=extras.field("Face seed (-1: none)").element_handle())
    assert extras.field("QuantFace model").input_value() == "quantface-mini (bundled)"
    assert extras.number("Strength").input_value() == "0.4"
    assert extras.field("Positions from the left, such as 0,2").input_value() == "0,2"
    assert extras.field("positions").is_checked()
    assert not extras.field("Automatic strength").is_checked()


def test_interrupt_saves_nothing(hosted: WebUI, extras: Page, photos: Path) -> None:
    saved = Saved(hosted)
    extras.show("#extras_image", photos / "solvay_1927_group.jpg")
    extras.unfold()
    extras.start()
    extras.interrupt("of 29")
    assert hosted.get("/sdapi/v1/progress")["state"]["job"] == ""
    assert saved() == []


def test_a_batch(hosted: WebUI, extras: Page, astronaut_file: Path, commanded: np.ndarray, tmp_path: Path) -> None:
    Image.new("RGB", (96, 96), "gray").save(tmp_path / "nobody.png")
    Image.open(astronaut_file).convert("RGBA").save(tmp_path / "with_alpha.png")
    saved = Saved(hosted)
    extras.mode("Batch Process")
    extras.upload("#extras_image_batch", tmp_path / "nobody.png", tmp_path / "with_alpha.png", astronaut_file)
    extras.unfold()
    extras.start()
    extras.finish()
    extras.told("0 of 1 faces")
    nobody, alpha, plain = sorted(saved(), key=lambda path: path.stat().st_mtime)
    assert (pixels(nobody) == 128).all()
    assert Image.open(alpha).mode == ("RGBA" if hosted.keeps_transparency else "RGB")
    assert abs(pixels(alpha) - commanded).max() <= _NEAR
    assert abs(pixels(plain) - commanded).max() <= _NEAR


def test_a_directory_with_broken_pictures(
    hosted: WebUI, extras: Page, astronaut_file: Path, commanded: np.ndarray, tmp_path: Path
) -> None:
    source, target = tmp_path / "from", tmp_path / "to"
    source.mkdir()
    (source / "a_broken.png").write_bytes(b"no picture")
    if not hosted.is_forge:  # which stops at such a file by itself, before any extension sees it
        (source / "b_cut.png").write_bytes(astronaut_file.read_bytes()[:100_000])
    (source / "c_whole.png").write_bytes(astronaut_file.read_bytes())
    extras.mode("Batch from Directory")
    extras.field("Input directory").fill(str(source))
    extras.field("Output directory").fill(str(target))
    extras.unfold()
    extras.start()
    extras.finish()
    extras.told("0 of 1 faces")
    [file] = target.rglob("*.png")
    assert abs(pixels(file) - commanded).max() <= _NEAR


def test_the_settings_page(hosted: WebUI, page: Page, astronaut_file: Path, commanded: np.ndarray) -> None:
    page.open("Settings", "settings")
    page.page.locator("#settings button", has_text="QuantFace").first.click()
    page.tab = page.page.locator("#settings_quantface")
    page.tab.wait_for()
    page.page.locator("#setting_quantface_strength input").first.click()
    page.page.locator("ul.options li").filter(has_text="0.5").first.click()
    page.shot(f"{hosted.name}_settings")
    page.page.locator("#settings_submit").click()
    page.page.locator("#settings_result", has_text="quantface_strength").first.wait_for()
    try:
        _, answer = hosted.post("/test/restore_faces", {"image": encoded(astronaut_file), "options": {}})
    finally:
        hosted.post("/sdapi/v1/options", {"quantface_strength": "auto"})
    halved = hosted.restored(astronaut_file, "--strength", "0.5")
    assert abs(decoded(answer["image"]) - halved).max() <= _NEAR
    assert abs(halved - commanded).max() > _NEAR


def test_a_generated_picture_s_text_brings_its_settings_back(hosted: WebUI, page: Page, tmp_path: Path) -> None:
    """Also those that were as usual then, and are not on the settings page now."""
    text = PngInfo()
    text.add_text(
        "parameters",
        "somebody\nSteps: 1, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, Face restoration: QuantFace, "
        "QuantFace model: quantface-mini, QuantFace strength: 0.5",
    )
    Image.new("RGB", (64, 64)).save(tmp_path / "generated.png", pnginfo=text)
    hosted.post("/sdapi/v1/options", {"quantface_faces": "largest"})
    try:
        page.open("PNG Info", "pnginfo")
        page.show("#pnginfo_image", tmp_path / "generated.png")
        page.tab.get_by_text("QuantFace strength: 0.5").first.wait_for()
        page.tab.locator("#txt2img_tab").click()
        overrides = page.page.locator("#txt2img_override_settings")
        overrides.get_by_text("QuantFace strength: 0.5").wait_for()
        told = overrides.inner_text()
        page.shot(f"{hosted.name}_override")
    finally:
        hosted.post("/sdapi/v1/options", {"quantface_faces": "all"})
    assert "QuantFace model: quantface-mini" in told
    assert "QuantFace faces: all" in told
    assert "QuantFace visibility" not in told  # it is what the settings page says


def test_the_page_in_chinese(hosted: WebUI, page: Page) -> None:
    hosted.post("/test/localization", {"name": "zh_CN"})
    try:
        page.open("Extras", "extras")
        page.unfold()
        page.accordion.get_by_text("自动强度").wait_for()
        page.shot(f"{hosted.name}_chinese")
        shown = page.accordion.inner_text()
        page.turn("Settings", "settings")
        page.page.locator("#settings button", has_text="QuantFace").first.click()
        options = page.page.locator("#settings_quantface").inner_text()
    finally:
        hosted.post("/test/localization", {"name": "None"})
    for english in ("visibility", "Faces", "positions", "Colours", "Smallest", "confidence", "Softness", "Seed"):
        assert english not in shown
    for english in ("visibility", "Strength", "Faces", "Colours", "of Restore faces", "as much as"):
        assert english not in options


class TestOsdface:
    """Built from the page, out of random originals that a small Hub on loopback has."""

    @pytest.fixture
    def unet(self, hosted: WebUI, tmp_path: Path) -> str:
        """The Hub's name of the largest original; all of them are there."""
        narrow = random_restorer(NARROW)
        write_originals(narrow, random_lora(narrow), tmp_path)
        hosted.hub.add_folder(tmp_path)
        return f"{SD}/unet/diffusion_pytorch_model.safetensors"

    def test_it_is_fetched_interrupted_resumed_and_built(
        self, hosted: WebUI, extras: Page, astronaut_file: Path, unet: str
    ) -> None:
        hub, saved = hosted.hub, Saved(hosted)
        size = len(hub.files[unet])
        hub.watch = lambda sent: time.sleep(1) if sent > size else None
        extras.show("#extras_image", astronaut_file)
        extras.unfold()
        extras.choose("QuantFace model", "osdface-w4a4 (build)")
        extras.start()
        extras.page.locator("#tab_extras .progress", has_text="QuantFace: osdface-w4a4").first.wait_for()
        while hub.sent <= size:
            extras.page.wait_for_timeout(200)
        extras.shot(f"{hosted.name}_fetch")
        extras.interrupt("QuantFace: osdface-w4a4")
        hub.watch = lambda sent: None
        assert saved() == []
        assert not (hosted.models / "osdface-w4a4.safetensors").exists()

        extras.start()
        extras.finish()
        told = extras.told("QuantFace model")
        assert "QuantFace model: osdface-w4a4" in told
        assert "of 1 faces" in told
        assert (hosted.models / "osdface-w4a4.safetensors").is_file()
        assert not (hosted.models / "originals").exists()
        assert [path.endswith(unet[len(SD) :]) for path in hub.downloads()].count(True) == 1
        extras.page.locator("#quantface_refresh").click()
        extras.field("QuantFace model").click()
        extras.page.locator("ul.options li", has_text="osdface-w4a4 (local)").wait_for()
