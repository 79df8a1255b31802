"""ComfyUI's page in a headless Chromium, worked by its own buttons."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from tests.nodes.comfyui import ComfyUI

_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
_LEFT, _TOP, _BOTTOM = 75, 90, 50  # pixels that the page's own bars take
_ROOM = """types => {
  const nodes = app.graph._nodes.filter((node) => !types.length || types.includes(node.type));
  const left = Math.min(...nodes.map((n) => n.pos[0])), right = Math.max(...nodes.map((n) => n.pos[0] + n.size[0]));
  const top = Math.min(...nodes.map((n) => n.pos[1])) - 40;
  const bottom = Math.max(...nodes.map((n) => n.pos[1] + n.size[1]));
  return [left - 20, top - 20, right - left + 40, bottom - top + 40];
}"""
_TITLE = """kind => {
  const { pos } = app.graph._nodes.find(({ type }) => type === kind), { canvas, ds } = app.canvas;
  const { left, top } = canvas.getBoundingClientRect();
  return [left + (pos[0] + 60 + ds.offset[0]) * ds.scale, top + (pos[1] - 15 + ds.offset[1]) * ds.scale];
}"""


def chromium() -> str | None:
    """A Chromium to drive: what CHROMIUM names, else the system's."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


class Page:
    """A page with a server behind it; `errors` are the console's since it was opened."""

    def __init__(self, playwright: Any, server: ComfyUI, shots: Path) -> None:
        self.server, self.shots = server, shots
        self.errors: list[str] = []
        shots.mkdir(parents=True, exist_ok=True)
        self.browser = playwright.chromium.launch(executable_path=chromium(), args=_FLAGS)
        self.page = self.browser.new_page(viewport={"width": 1700, "height": 950})
        self.page.on("pageerror", lambda error: self.errors.append(f"{error}\n{error.stack}"))
        self.page.on("response", lambda r: self.errors.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        self.open()

    def open(self) -> None:
        self.page.goto(self.server.address)
        self.page.wait_for_function("window.app?.graph && window.app.extensionManager?.setting", timeout=60_000)
        self.set("Comfy.TutorialCompleted", True)
        for name in ("Comfy.Workflow.Persist", "Comfy.Minimap.Visible"):
            self.set(name, False)
        self.page.wait_for_timeout(2000)
        self.page.keyboard.press("Escape")

    def close(self) -> None:
        self.browser.close()

    def set(self, setting: str, value: Any) -> None:
        self.page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [setting, value])

    def templates(self) -> None:
        """Open the template browser at the pack's."""
        self.page.locator(".templates-tab-button").click()
        self.page.get_by_role("dialog").get_by_text("QuantFace", exact=True).first.click()  # not a node's badge
        self.page.locator("[data-testid^='template-workflow-Restore']").first.wait_for()

    def template(self, name: str) -> None:
        """Open a workflow of the pack from the template browser."""
        self.templates()
        self.page.locator(f"[data-testid='template-workflow-{name}']").click()
        self.page.wait_for_function("() => app.graph._nodes.some((node) => node.type.startsWith('QuantFace_'))")
        self.page.wait_for_timeout(1000)
        self.page.keyboard.press("Escape")  # a word about models that muted nodes would want
        self.page.wait_for_timeout(500)

    def widgets(self, kind: str, **values: Any) -> None:
        """Set a node's widgets."""
        self.page.evaluate(
            """([kind, values]) => {
              for (const node of app.graph._nodes.filter((node) => node.type === kind))
                for (const widget of node.widgets)
                  if (widget.name in values) { widget.value = values[widget.name]; widget.callback?.(widget.value); }
            }""",
            [kind, values],
        )

    def keep(self, *kinds: str) -> None:
        """Remove all nodes of other types."""
        self.page.evaluate(
            "kinds => [...app.graph._nodes].filter((n) => !kinds.includes(n.type)).forEach((n) => app.graph.remove(n))",
            list(kinds),
        )

    def connect(self, source: str, output: str, target: str, socket: str) -> None:
        """Connect the first nodes of two types."""
        self.page.evaluate(
            """([source, output, target, socket]) => {
              const [from, to] = [source, target].map((type) => app.graph._nodes.find((node) => node.type === type));
              from.connect(from.findOutputSlot(output), to, to.findInputSlot(socket));
            }""",
            [source, output, target, socket],
        )

    def select(self, kind: str) -> None:
        """Click the title of the first node of a type."""
        x, y = self.page.evaluate(_TITLE, kind)
        self.page.mouse.click(x, y)
        self.page.wait_for_timeout(500)

    def fit(self, *kinds: str) -> None:
        """Zoom to all nodes, or to those of some types."""
        left, top, width, height = self.page.evaluate(_ROOM, list(kinds))
        size = self.page.viewport_size
        canvas = self.page.locator("#graph-canvas").bounding_box()  # older pages' starts beside the bars, not below
        x, y = max(0, _LEFT - canvas["x"]), max(0, _TOP - canvas["y"])
        wide = size["width"] - canvas["x"] - x - 20
        tall = size["height"] - canvas["y"] - y - _BOTTOM
        scale = min(wide / width, tall / height, 1.3)
        self.page.evaluate(
            """([scale, x, y]) => {
              app.canvas.ds.scale = scale; app.canvas.ds.offset[0] = x; app.canvas.ds.offset[1] = y;
              app.canvas.setDirty(true, true);
            }""",
            [scale, x / scale - left, y / scale - top],
        )
        self.page.wait_for_timeout(500)

    def command(self, name: str) -> None:
        """Carry out one of the page's commands."""
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)
        self.page.wait_for_timeout(1000)

    def run(self) -> None:
        """Press Run."""
        run = "[data-testid='queue-button']"  # the button itself, in newer pages
        self.page.locator(f"{run} button, button{run}").first.click()

    def wait(self, runs: int, seconds: float = 300) -> dict[str, Any]:
        """The last prompt's history, once the server has finished so many."""
        end = time.monotonic() + seconds
        while len(history := self.server.get("/history")) < runs and time.monotonic() < end:
            self.page.wait_for_timeout(200)
        assert len(history) >= runs, f"still runs:\n{self.server.log.read_text()[-2000:]}"
        self.page.wait_for_timeout(1000)
        return dict(list(history.values())[-1])

    def run_through(self, seconds: float = 300) -> None:
        """Press Run and wait until it succeeded."""
        before = len(self.server.get("/history"))
        self.run()
        status = self.wait(before + 1, seconds)["status"]
        assert status["status_str"] == "success", status

    def cancel(self) -> None:
        """The page's shortcut for its cancel button."""
        self.page.keyboard.press("Control+Alt+Enter")

    def shot(self, name: str, **options: Any) -> None:
        self.page.screenshot(path=str(self.shots / f"{name}.png"), **options)
