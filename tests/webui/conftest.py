"""The extension on stand-ins for its host, and in a real one where WEBUI_PATH and WEBUI_PYTHON name it."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.webui.standin import (
    Component,
    FaceRestoration,
    OptionInfo,
    Options,
    Script,
    ScriptPostprocessing,
    State,
    fake,
)
from tests.webui.webui import WebUI

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def hosted(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[WebUI]:
    """A real WebUI, with the extension."""
    if not {"WEBUI_PATH", "WEBUI_PYTHON"} <= set(os.environ):
        pytest.skip("needs WEBUI_PATH, a checkout of AUTOMATIC1111's WebUI or of Forge, and WEBUI_PYTHON, its Python")
    base = tmp_path_factory.mktemp("webui")
    running = WebUI(Path(os.environ["WEBUI_PATH"]), base, photos / "nasa_astronaut.png")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def commanded(hosted: WebUI, photos: Path) -> np.ndarray:
    """What `quantface restore` makes of the photo, by the real WebUI's Python."""
    return hosted.restored(photos / "nasa_astronaut.png")


@pytest.fixture
def webui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The stand-in's state; `load()` loads the extension as the host does, and again at a reload."""
    state, opts = State(), Options()
    reports: list[tuple[str, bool]] = []
    warnings: list[str] = []
    callbacks: dict[str, list[Any]] = {}
    Component.made = []
    shared = fake(
        "modules.shared",
        state=state, opts=opts, OptionInfo=OptionInfo, face_restorers=[],
        cmd_opts=SimpleNamespace(api=True, nowebui=False, api_auth=None, quantface_models_path=None),
    )  # fmt: skip

    def on(event: str) -> Callable[[Any], None]:
        return lambda callback: callbacks.setdefault(event, []).append(callback)

    events = (
        "on_before_ui",
        "on_after_component",
        "on_ui_settings",
        "on_infotext_pasted",
        "on_app_started",
        "on_script_unloaded",
    )
    model_data = SimpleNamespace(lock=threading.Lock(), sd_model=None)
    moves: list[str] = []
    gradio = fake(
        "gradio",
        **{
            kind: type(kind, (Component,), {})
            for kind in ("Dropdown", "Slider", "Checkbox", "Radio", "Textbox", "Number", "Markdown")
        },
        update=lambda **values: values or "as it is",
        Warning=warnings.append,
    )
    ui_components = fake(
        "modules.ui_components",
        **{kind: type(kind, (Component,), {}) for kind in ("InputAccordion", "FormRow", "ToolButton")},
    )
    modules = [
        gradio, shared, ui_components,
        fake("modules.paths", models_path=str(tmp_path / "models")),
        fake("modules.devices", get_device_for=lambda task: torch.device("cpu"), torch_gc=lambda: None),
        fake("modules.errors", report=lambda message, exc_info=False: reports.append((message, exc_info))),
        fake("modules.call_queue", queue_lock=threading.Lock()),
        fake("modules.face_restoration", FaceRestoration=FaceRestoration),
        fake("modules.images", read_info_from_image=lambda image: (image.info.get("parameters"), dict(image.info))),
        fake("modules.scripts", Script=Script, AlwaysVisible="always"),
        fake("modules.scripts_postprocessing", ScriptPostprocessing=ScriptPostprocessing),
        fake("modules.script_callbacks", **{event: on(event) for event in events}),
        fake("modules.ui_common", create_refresh_button=lambda *_: None),
        fake(
            "modules.sd_models",
            model_data=model_data,
            send_model_to_cpu=lambda model: moves.append("away"),
            send_model_to_device=lambda model: moves.append("back"),
        ),
    ]  # fmt: skip
    package = fake("modules", **{m.__name__.partition(".")[2]: m for m in modules if "." in m.__name__})
    for module in [package, *modules]:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", "")  # put back afterwards, however the extension sets it

    def load() -> Any:
        callbacks.clear()
        spec = importlib.util.spec_from_file_location("quantface.py", ROOT / "scripts" / "quantface.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)  # not in sys.modules: the host leaves it out as well
        monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
        spec.loader.exec_module(module)
        return module

    (tmp_path / "models" / "quantface").mkdir(parents=True)
    yield SimpleNamespace(
        state=state, opts=opts, shared=shared, reports=reports, warnings=warnings, callbacks=callbacks, load=load,
        moves=moves, model_data=model_data, models=tmp_path / "models" / "quantface", gradio=gradio, modules=package,
    )  # fmt: skip
    for name in [name for name in sys.modules if name.split(".")[0] == "quantface_webui"]:
        del sys.modules[name]


@pytest.fixture
def script(webui: SimpleNamespace) -> Any:
    """The extension's script, loaded."""
    return webui.load()


@pytest.fixture
def extras(script: Any) -> Any:
    """The accordion's script, with its controls made."""
    made = script.QuantFaceExtras()
    made.controls = made.ui()
    return made


@pytest.fixture(scope="session")
def tiny_file(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The narrowest restorer, as a file."""
    from quantface_core.io.checkpoint import save_restorer

    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save_restorer(tiny, path, torch.float32)
    return path


@pytest.fixture
def model(webui: SimpleNamespace, tiny_file: Path) -> str:
    """It, in the host's models folder: what the menu calls it."""
    (webui.models / "tiny.safetensors").hardlink_to(tiny_file)
    return "tiny.safetensors"


@pytest.fixture
def expected(tiny: Any, astronaut: np.ndarray, detector: Any) -> np.ndarray:
    """What the library makes of the photo with it at full strength; the photo is sharp: auto leaves it."""
    from quantface_core import RestoreOptions, restore_photo

    pixels = restore_photo(astronaut, tiny, detector(astronaut), RestoreOptions(strength=1.0)).pixels
    assert not np.array_equal(pixels, astronaut)
    return pixels
