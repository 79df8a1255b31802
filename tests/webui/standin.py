"""Small stand-ins for the WebUI's `modules.*` and gradio: what of their interface the extension uses."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any


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


def fake(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = []
    vars(module).update(names)
    return module
