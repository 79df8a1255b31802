"""A real WebUI, started for the tests that need one: WEBUI_PATH names its checkout, AUTOMATIC1111's or Forge's.

WEBUI_PYTHON names the Python that has its requirements, with what `install.py` adds. Its CLIP needs a tokenizer in the
Hub's cache (HF_HOME). It starts in a folder of its own, on the processor and without a checkpoint. The host itself is
offline; processes that it starts later ask a small Hub on loopback, and take OSDFace for its narrow likeness.
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.io.local_hub import LocalHub

ROOT = Path(__file__).parents[2]
_STARTS = 1800  # seconds, on a busy machine
_RUNS = 1200
_COMMON = ["--api", "--skip-torch-cuda-test", "--no-download-sd-model", "--no-hashing", "--skip-version-check"]
_A1111 = ["--use-cpu", "all", "--no-half", "--precision", "full", "--do-not-download-clip", "--disable-nan-check"]
_FORGE = ["--always-cpu", "--skip-install"]  # without the latter it changes its own numpy

# An extension for the tests alone: `POST /test/restore_faces` is what the host does to a generated picture,
# `POST /test/localization` turns the page to a language, and pictures generated for "the photo" are the photo.
_PROBE = """
import base64, io, os
import numpy as np, torch
from fastapi import Body
from PIL import Image
from modules import face_restoration, script_callbacks, scripts, shared, ui_gradio_extensions

def pixels(file):
    return np.array(Image.open(file).convert("RGB"))

class Photo(scripts.Script):
    def title(self): return "Photo"
    def show(self, is_img2img): return scripts.AlwaysVisible
    def postprocess_batch_list(self, p, pp, *args, **kwargs):
        if p.prompt == "the photo":
            photo = pixels(os.environ["QUANTFACE_TEST_PHOTO"])
            pp.images = [torch.from_numpy(photo).permute(2, 0, 1).float() / 255 for _ in pp.images]

def add(_, app):
    def restore(values: dict = Body(...)):
        before = dict(shared.opts.data)
        shared.opts.data.update(face_restoration_model="QuantFace", **values["options"])
        try:
            found = face_restoration.restore_faces(pixels(io.BytesIO(base64.b64decode(values["image"]))))
        finally:
            shared.opts.data.update(before)
        file = io.BytesIO()
        Image.fromarray(found).save(file, "PNG")
        return {"image": base64.b64encode(file.getvalue()).decode()}
    def localize(values: dict = Body(...)):
        shared.opts.data["localization"] = values["name"]
        ui_gradio_extensions.reload_javascript()
        return {}
    app.add_api_route("/test/restore_faces", restore, methods=["POST"])
    app.add_api_route("/test/localization", localize, methods=["POST"])
    os.environ.pop("HF_HUB_OFFLINE", None)
    os.environ["QUANTFACE_TEST_NARROW"] = "1"

script_callbacks.on_app_started(add)
"""

# Every Python that the host starts reads it.
_SITE = f"""
import os, sys
if os.environ.get("QUANTFACE_TEST_NARROW"):
    sys.path.insert(0, {str(ROOT)!r})
    from tests.random_originals import NARROW
    import quantface_core.io.osdface
    quantface_core.io.osdface.OSDFACE = NARROW
"""


class WebUI:
    """The server with this extension and the tests' own."""

    def __init__(self, checkout: Path, base: Path, photo: Path) -> None:
        self.base, self.log, self.checkout = base, base / "log.txt", checkout
        self.python = os.environ["WEBUI_PYTHON"]
        self.is_forge = (checkout / "modules_forge").is_dir()
        self.keeps_transparency = 'PostprocessedImage(image_data.convert("RGB"))' not in (
            (checkout / "modules" / "postprocessing.py").read_text("utf-8")
        )  # Forge Classic drops it before it calls any script
        self.name = "forge" if self.is_forge else "a1111"
        self.models = base / "models" / "quantface"
        self.hub = LocalHub()
        extension = base / "extensions" / "QuantFace"
        extension.mkdir(parents=True)
        for part in ROOT.iterdir():  # not the folder itself: the host wants to know its repository's origin
            if part.name not in (".git", ".venv"):
                (extension / part.name).symlink_to(part)
        probe = base / "extensions" / "probe" / "scripts" / "probe.py"
        probe.parent.mkdir(parents=True)
        probe.write_text(_PROBE, "utf-8")
        (base / "site").mkdir()
        (base / "site" / "sitecustomize.py").write_text(_SITE, "utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        own = _FORGE if self.is_forge else [*_A1111, "--ckpt", str(checkout / "test" / "test_files" / "empty.pt")]
        command = [self.python, "launch.py", *_COMMON, *own, "--port", str(port), "--data-dir", str(base)]
        command += ["--gradio-allowed-path", str(checkout)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
        environment |= {"HF_ENDPOINT": self.hub.url, "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(base / "site")}
        environment |= {"QUANTFACE_TEST_PHOTO": str(photo), "PYTHONUNBUFFERED": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=checkout, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        self._wait()

    def _wait(self) -> None:
        """Until the host says so: asking it before, on a slow machine, has it fail to add its middleware."""
        end = time.monotonic() + _STARTS
        while time.monotonic() < end and self.process.poll() is None:
            if "Startup time:" in self.log.read_text():
                self.get("/quantface/models")
                self.greeting = self.log.read_text()
                return
            time.sleep(1)
        self.stop()
        raise RuntimeError(f"the WebUI did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(600)
        self.hub.close()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.address + path, timeout=60) as answer:
            return json.loads(answer.read())

    def post(self, path: str, data: Any) -> tuple[int, Any]:
        """Status and answer, also of a refusal."""
        request = urllib.request.Request(
            self.address + path, json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_RUNS) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def memory(self) -> float:
        """Resident memory in MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def restored(self, photo: Path, *options: str) -> np.ndarray:
        """What `quantface restore` makes of a photo, by the WebUI's own Python, int [H, W, 3]."""
        code = "import sys; from quantface_core.cli.main import main; sys.exit(main())"
        target = self.base / f"command{len(list(self.base.glob('command*.png')))}.png"
        command = [self.python, "-c", code, "restore", str(photo), "--output", str(target), *options]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return pixels(target)

    def saved(self) -> list[Path]:
        """The pictures that the Extras tab has saved."""
        return list(self.base.rglob("extras-images/**/*.png"))


def pixels(file: Any) -> np.ndarray:
    """An image file's pixels, int [H, W, 3]."""
    return np.array(Image.open(file).convert("RGB")).astype(int)


def decoded(text: str) -> np.ndarray:
    """The pixels of an image file in base64."""
    return pixels(io.BytesIO(base64.b64decode(text)))


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
