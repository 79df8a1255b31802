"""The WebUI's page in a headless Chromium, worked as its user does: made by gradio 3 in A1111, by gradio 4 in Forge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.nodes.page import chromium

_PATIENCE = 300_000  # milliseconds


class Page:
    """A page of the server at an address; `tab` is the content of the tab that it was turned to."""

    def __init__(self, playwright: Any, address: str, shots: Path) -> None:
        self.address, self.shots = address, shots
        self.browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        self.page = self.browser.new_page(viewport={"width": 1400, "height": 1100})
        self.page.set_default_timeout(_PATIENCE)
        shots.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        self.browser.close()

    def open(self, title: str, name: str) -> None:
        """Load the page anew and turn to one of its tabs, which has a name besides its title."""
        self.page.goto(f"{self.address}/?__theme=dark", wait_until="domcontentloaded")
        # Accordions get their boxes last: one that is opened before is not ticked.
        self.page.locator(".input-accordion-checkbox").first.wait_for(state="attached")
        self.page.wait_for_timeout(1000)
        self.turn(title, name)

    def turn(self, title: str, name: str) -> None:
        self.page.locator("#tabs button", has_text=re.compile(rf"^\s*{title}\s*$")).first.click()
        self.tab = self.page.locator(f"#tab_{name}")
        self.tab.wait_for()

    def shot(self, name: str) -> None:
        self.page.wait_for_timeout(2000)
        self.page.screenshot(path=str(self.shots / f"{name}.png"), full_page=True)

    def show(self, where: str, file: Path) -> None:
        """Give a picture to one of the page's places for one."""
        self.page.locator(f"{where} input[type=file]").first.set_input_files(str(file))
        self.page.locator(f"{where} img").first.wait_for()

    def upload(self, where: str, *files: Path) -> None:
        """Give the server some files; what the page says of it is not to be trusted, gradio 3's stays at uploading."""
        with self.page.expect_response(lambda response: "/upload" in response.url):
            self.page.locator(f"{where} input[type=file]").first.set_input_files([str(file) for file in files])
        self.page.locator(f"{where} .file-preview").wait_for()
        self.page.wait_for_timeout(2000)

    def mode(self, title: str) -> None:
        """Turn to a tab of the Extras tab's own. The server has to hear of it first, and gradio 3 forgets an upload
        that such an answer comes between."""
        self.page.locator("#mode_extras button", has_text=title).click()
        self.page.wait_for_timeout(10_000)

    @property
    def accordion(self) -> Any:
        return self.tab.locator(".input-accordion", has_text="QuantFace").first

    def unfold(self) -> None:
        """Open our accordion, which switches it on."""
        self.accordion.locator(".label-wrap").first.click()
        self.page.locator("#quantface_read").wait_for()

    def field(self, label: str) -> Any:
        """The first control with a label."""
        return self.tab.get_by_label(label, exact=True).first

    def number(self, label: str) -> Any:
        """The number of a slider: gradio 4 words its label another way."""
        return self.field(label).or_(self.tab.get_by_label(f"number input for {label}", exact=True)).first

    def choose(self, label: str, choice: str) -> None:
        """Choose from a menu."""
        self.field(label).click()
        self.page.locator("ul.options li", has_text=choice).first.click()

    def start(self) -> None:
        """Press Generate in the Extras tab."""
        self.page.locator("#extras_generate").first.click()
        self.page.locator("#extras_interrupt").wait_for()

    def finish(self) -> None:
        """Wait until it is done."""
        for button in ("interrupt", "interrupting"):
            self.page.locator(f"#extras_{button}").wait_for(state="hidden")

    def interrupt(self, when: str) -> None:
        """Press Interrupt as soon as the bar says something."""
        self.page.locator("#tab_extras .progress", has_text=when).first.wait_for()
        self.page.locator("#extras_interrupt").click()
        self.finish()

    def told(self, what: str) -> str:
        """What is told beneath the result, once it has come."""
        text = self.page.locator("[id^=html_info][id$=extras]", has_text=what).first
        text.wait_for()
        return str(text.inner_text())
