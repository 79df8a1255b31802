"""A real ComfyUI, started for the tests that need one: COMFYUI_PATH names its checkout.

COMFYUI_PYTHON names the Python that has its requirements (by default, the one that runs the tests), and
COMFYUI_FRONTEND, if set, a folder with another version of its page.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_STARTS, _RUNS = 120, 600  # seconds until it listens, and until a prompt is through
_WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
_NESTED = "COMFY_DYNAMICCOMBO_V3"
_MUTED = 2


class ComfyUI:
    """The server in folders of its own, where `QuantFace` is the only pack."""

    def __init__(self, checkout: Path, base: Path) -> None:
        for folder in ("custom_nodes", "input", "output", "models", "user", "temp"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        (base / "custom_nodes" / "QuantFace").symlink_to(ROOT, target_is_directory=True)
        self.base, self.log = base, base / "log.txt"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [os.environ.get("COMFYUI_PYTHON", sys.executable), "main.py", "--cpu", "--port", str(port)]
        command += ["--listen", "127.0.0.1", "--disable-auto-launch", "--base-directory", str(base)]
        if frontend := os.environ.get("COMFYUI_FRONTEND"):
            command += ["--front-end-root", frontend]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=checkout, stdout=log, stderr=subprocess.STDOUT)
        self._wait()
        self.nodes: dict[str, Any] = self.get("/object_info")

    def _wait(self) -> None:
        end = time.monotonic() + _STARTS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.address + path, timeout=30) as answer:
            return json.loads(answer.read())

    def post(self, path: str, data: Any) -> Any:
        """The answer, or the body of a refusal."""
        request = urllib.request.Request(
            self.address + path, json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        return json.loads(body) if body else None

    def queue(self, prompt: dict[str, Any]) -> str:
        answer = self.post("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})
        assert "prompt_id" in answer, json.dumps(answer, indent=1)
        return str(answer["prompt_id"])

    def clear(self) -> None:
        """Stop what runs and what waits: of a prompt with a wrong input the host runs the other outputs."""
        while any(self.get("/queue").values()):
            self.post("/queue", {"clear": True})
            self.post("/interrupt", {})
            time.sleep(0.2)

    def finished(self, prompt_id: str, seconds: float = _RUNS) -> dict[str, Any]:
        """The history of a prompt, once it is through."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return dict(history[prompt_id])
            time.sleep(0.05)
        raise TimeoutError(f"prompt still runs:\n{self.log.read_text()[-3000:]}")

    def run(self, prompt: dict[str, Any], seconds: float = _RUNS) -> dict[str, Any]:
        """The outputs by node of a prompt that must succeed."""
        history = self.finished(self.queue(prompt), seconds)
        assert history["status"]["status_str"] == "success", json.dumps(history["status"], indent=1)[:4000]
        return dict(history["outputs"])

    def workflow(self, name: str, /, **changes: Any) -> dict[str, Any]:
        """A shipped workflow as a prompt, widgets of these names changed."""
        prompt = self.prompt_of(json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8")))
        for node in prompt.values():
            widgets = {name for name, value in node["inputs"].items() if not isinstance(value, list)}
            node["inputs"] |= {name: value for name, value in changes.items() if name in widgets}
        return prompt

    def memory(self) -> float:
        """Resident memory in MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def prompt_of(self, workflow: dict[str, Any]) -> dict[str, Any]:
        """A saved workflow as the page would queue it: muted nodes and notes left out."""
        sources = {number: [str(source), output] for number, source, output, *_ in workflow["links"]}
        prompt = {}
        for node in workflow["nodes"]:
            if node["mode"] == _MUTED or node["type"] not in self.nodes:
                continue
            # Newer hosts' own nodes have widgets at their end that a workflow says nothing of.
            inputs: dict[str, Any] = dict(zip(self._widgets(node["type"]), node["widgets_values"], strict=False))
            inputs |= {i["name"]: sources[i["link"]] for i in node["inputs"] if i["link"] is not None}
            inputs.pop("upload", None)
            prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
        return prompt

    def _widgets(self, kind: str) -> list[str]:
        """The names of a node's widgets, in the order of a workflow's values; `upload` for a picture's button."""
        names = []
        for group in ("required", "optional"):
            for name, spec in self.nodes[kind]["input"].get(group, {}).items():
                options = spec[1] if len(spec) > 1 else {}
                if spec[0] == _NESTED:  # a choice, and what the first of its options asks for
                    names += [name, *(f"{name}.{below}" for below in options["options"][0]["inputs"]["required"])]
                elif isinstance(spec[0], list) or spec[0] in _WIDGETS:
                    names.append(name)
                    if options.get("image_upload") or options.get("video_upload"):
                        names.append("upload")
        return names
