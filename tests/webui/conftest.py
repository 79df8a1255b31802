"""Small stand-ins for the WebUI's `modules.*` and gradio, with the interface that the extension uses."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]


class Component:
    """A control of gradio: its arguments and its handlers."""

    made: list[Component]

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args, self.options, self.handlers = args, options, []
        self.label = options.get("label")
        Component.made.append(self)

    def change(self, fn: Any, inputs: Any, outputs: Any, **_: Any) -> None:
        self.handlers.append((fn, inputs, outputs))

    click = change

    def __enter__(self) -> Component:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class State:
    """`shared.state`, as far as it is used."""

    def __init__(self) -> None:
        self.interrupted = self.skipped = self.stopping_generation = False
        self.job_no, self.job_count, self.sampling_step, self.sampling_steps = 1, 1, 0, 0
        self.textinfo: str | None = None
        self.jobs: list[str] = []
        self.told: list[tuple[int, int, str]] = []

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "textinfo" and value:
            self.told.append((self.sampling_step, self.sampling_steps, value))
            if self.on_progress:
                self.on_progress()

    on_progress: Callable[[], None] | None = None

    def begin(self, job: str) -> None:
        self.jobs.append(job)
        self.interrupted = self.skipped = False

    def end(self) -> None:
        self.jobs.append("end")

    def nextjob(self) -> None:
        self.job_no = 1


class Options:
    """`shared.opts`: values as attributes, the pages' entries in `data_labels`."""

    def __init__(self) -> None:
        self.data_labels: dict[str, OptionInfo] = {}
        self.data: dict[str, Any] = {"face_restoration_model": "CodeFormer", "face_restoration_unload": False}

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.data_labels[key] = info
        self.data.setdefault(key, info.default)

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("data", {}):
            return self.__dict__["data"][name]
        raise AttributeError(name)


class OptionInfo:
    def __init__(self, default: Any, label: str, component: Any, component_args: Any, **rest: Any) -> None:
        self.default, self.label, self.component, self.component_args = default, label, component, component_args
        self.section, self.infotext, self.note = rest["section"], rest["infotext"], ""

    def info(self, note: str) -> OptionInfo:
        self.note = f"({note})"
        return self


class ScriptPostprocessing:
    name: str | None = None


class Script:
    pass


class FaceRestoration:
    def name(self) -> str:
        return "None"


def _module(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = []
    vars(module).update(names)
    return module


@pytest.fixture
def webui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The stand-in's state; `load()` loads the extension as the host does, and again at a reload."""
    state, opts = State(), Options()
    reports: list[tuple[str, bool]] = []
    callbacks: dict[str, list[Any]] = {}
    Component.made = []
    shared = _module(
        "modules.shared",
        state=state, opts=opts, OptionInfo=OptionInfo, face_restorers=[],
        cmd_opts=SimpleNamespace(api=True, nowebui=False, api_auth=None, quantface_models_path=None),
    )  # fmt: skip

    def on(event: str) -> Callable[[Any], None]:
        return lambda callback: callbacks.setdefault(event, []).append(callback)

    events = ("on_after_component", "on_ui_settings", "on_app_started", "on_script_unloaded")
    model_data = SimpleNamespace(lock=threading.Lock(), sd_model=None)
    moves: list[str] = []
    gradio = _module(
        "gradio",
        **{
            kind: type(kind, (Component,), {})
            for kind in ("Dropdown", "Slider", "Checkbox", "Radio", "Textbox", "Number")
        },
        update=lambda **values: values or "as it is",
    )
    ui_components = _module(
        "modules.ui_components",
        **{kind: type(kind, (Component,), {}) for kind in ("InputAccordion", "FormRow", "ToolButton")},
    )
    modules = [
        gradio, shared, ui_components,
        _module("modules.paths", models_path=str(tmp_path / "models")),
        _module("modules.devices", get_device_for=lambda task: torch.device("cpu"), torch_gc=lambda: None),
        _module("modules.errors", report=lambda message, exc_info=False: reports.append((message, exc_info))),
        _module("modules.call_queue", queue_lock=threading.Lock()),
        _module("modules.face_restoration", FaceRestoration=FaceRestoration),
        _module("modules.images", read_info_from_image=lambda image: (image.info.get("parameters"), dict(image.info))),
        _module("modules.scripts", Script=Script, AlwaysVisible="always"),
        _module("modules.scripts_postprocessing", ScriptPostprocessing=ScriptPostprocessing),
        _module("modules.script_callbacks", **{event: on(event) for event in events}),
        _module("modules.ui_common", create_refresh_button=lambda *_: None),
        _module(
            "modules.sd_models",
            model_data=model_data,
            send_model_to_cpu=lambda model: moves.append("away"),
            send_model_to_device=lambda model: moves.append("back"),
        ),
    ]  # fmt: skip
    package = _module("modules", **{m.__name__.partition(".")[2]: m for m in modules if "." in m.__name__})
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
        state=state, opts=opts, shared=shared, reports=reports, callbacks=callbacks, load=load, moves=moves,
        model_data=model_data, models=tmp_path / "models" / "quantface", gradio=gradio, modules=package,
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
    (webui.models / "tiny.safetensors").symlink_to(tiny_file)
    return "tiny.safetensors"


@pytest.fixture
def expected(tiny: Any, astronaut: np.ndarray, detector: Any) -> np.ndarray:
    """What the library makes of the photo with it."""
    from quantface_core import restore_photo

    return restore_photo(astronaut, tiny, detector(astronaut)).pixels
