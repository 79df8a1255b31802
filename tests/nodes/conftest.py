"""A small stand-in for ComfyUI, with the interface the nodes use, so that they are always tested; and a real one."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from quantface_core.io.face_restorers import KEYS
from quantface_core.restorer import OneStepRestorer
from tests.nodes.comfyui import ComfyUI
from tests.published import FILES

ROOT = Path(__file__).parents[2]
RESTORE = {
    "faces": "all", "positions": "0", "order": "left-to-right", "strength": 1.0, "color": "wavelet", "upscale": "1",
    "min_confidence": 0.7, "min_size": 0, "feather": 0.32, "smoothing": 0.0, "batch_size": 0, "blend": "strength",
    "seed": -1,
}  # fmt: skip


class _Socket:
    """An input or output of a schema, all its arguments kept."""

    def __init__(self, id: str, display_name: str | None = None, **options: Any) -> None:
        self.id, self.display_name, self.options = id, display_name or id, options
        self.optional = options.get("optional", False)


def _type(name: str, widget: bool = False) -> SimpleNamespace:
    def make(kind: str) -> type[_Socket]:
        return type(kind, (_Socket,), {"io_type": name, "widget": widget})

    return SimpleNamespace(io_type=name, Input=make("Input"), Output=make("Output"))


@dataclass
class Schema:
    node_id: str
    display_name: str
    category: str
    description: str = ""
    inputs: list[_Socket] = field(default_factory=list)
    outputs: list[_Socket] = field(default_factory=list)
    is_output_node: bool = False
    search_aliases: list[str] = field(default_factory=list)


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui


class Patcher:
    def __init__(self, model: Any, load_device: Any, offload_device: Any) -> None:
        self.model = model


def _module(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    vars(module).update(names)
    return module


class Video:
    """A video of the host's; in memory if it is bytes."""

    def __init__(self, source: str | bytes, start: float = 0.0, duration: float = 0.0) -> None:
        self.source, self.window = source, (start, duration)

    def get_stream_source(self) -> str | BytesIO:
        return BytesIO(self.source) if isinstance(self.source, bytes) else self.source

    def get_active_trim_window(self) -> tuple[float, float]:
        return self.window


class ExecutionBlocker:
    def __init__(self, message: str | None) -> None:
        self.message = message


class Cancelled(BaseException):
    pass


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The stand-in's state: `cancelled` is what the user's cancel button sets, `models` the models folder."""
    state = SimpleNamespace(
        cancelled=False, models=tmp_path, bars=[], previews=[], on_progress=None, checks=0, asked=[]
    )
    widgets = {n: _type(n.upper(), widget=True) for n in ("Combo", "Int", "Float", "Boolean", "String")}
    io = SimpleNamespace(
        ComfyNode=object, Schema=Schema, NodeOutput=NodeOutput, Custom=_type,
        Image=_type("IMAGE"), Mask=_type("MASK"), Video=_type("VIDEO"), **widgets,
    )  # fmt: skip

    def preview(image: Any, cls: Any) -> SimpleNamespace:
        return SimpleNamespace(as_dict=lambda: {"images": list(image), "animated": (False,)})

    videos = SimpleNamespace(VideoFromFile=Video)
    ui = SimpleNamespace(PreviewImage=preview, PreviewText=lambda text: text)
    cpu = torch.device("cpu")

    def check() -> None:
        state.checks += 1
        if state.cancelled:
            raise Cancelled

    class ProgressBar:
        def __init__(self, total: int) -> None:
            state.bars.append([])

        def update_absolute(self, value: int, total: int, preview: Any = None) -> None:
            state.bars[-1].append((value, total))
            if preview:
                state.previews.append(preview)
            if state.on_progress:
                state.on_progress()

    management = _module(
        "comfy.model_management",
        get_torch_device=lambda: cpu,
        unet_offload_device=lambda: cpu,
        intermediate_device=lambda: cpu,
        load_models_gpu=lambda patchers, memory_required, **_: state.asked.append(memory_required),
        throw_exception_if_processing_interrupted=check,
    )
    state.folders = folders = dict[str, tuple[list[str], set[str]]]()

    def add(name: str, path: str, is_default: bool = False) -> None:
        paths, _ = folders.setdefault(name, ([], set()))
        if path not in paths:
            paths.insert(0 if is_default else len(paths), path)

    def path_of(name: str, file: str) -> str | None:
        path = tmp_path / name / file
        return str(path) if path.is_file() else None

    def listed(name: str) -> list[str]:
        kinds = folders[name][1]  # none: any
        return sorted(p.name for p in (tmp_path / name).glob("*") if p.is_file() and p.suffix in (kinds or {p.suffix}))

    folder_paths = _module(
        "folder_paths",
        models_dir=str(tmp_path),
        folder_names_and_paths=folders,
        add_model_folder_path=add,
        get_filename_list=listed,
        get_full_path=path_of,
        get_folder_paths=lambda name: folders[name][0],
        get_input_directory=lambda: str(tmp_path / "input"),
        get_temp_directory=lambda: str(tmp_path / "temp"),
    )
    patchers, utils = (
        _module("comfy.model_patcher", ModelPatcher=Patcher),
        _module("comfy.utils", ProgressBar=ProgressBar),
    )
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path / "quantface"))  # so that it is put back afterwards
    modules = [
        _module("comfy_api"), _module("comfy_api.latest", io=io, ui=ui, InputImpl=videos, ComfyExtension=object),
        _module("comfy", model_management=management, model_patcher=patchers, utils=utils),
        management, patchers, utils, folder_paths,
        _module("comfy_execution"), _module("comfy_execution.graph_utils", ExecutionBlocker=ExecutionBlocker),
    ]  # fmt: skip
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return state


@pytest.fixture
def pack(host: SimpleNamespace) -> Any:
    """The pack, loaded as ComfyUI does: from its folder, under a name of the host's choosing."""
    name = "custom_nodes_quantface"
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    for loaded in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[loaded]


@pytest.fixture
def nodes(pack: Any) -> dict[str, Any]:
    """Node classes by id."""
    import asyncio

    async def listed() -> list[Any]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    return {node.define_schema().node_id: node for node in asyncio.run(listed())}


@pytest.fixture
def load(nodes: dict[str, Any]) -> Any:
    """A function from a choice of the loader to its model."""

    def loaded(model: str = "quantface-mini-w4a4 (bundled)") -> Any:
        return nodes["QuantFace_LoadModel"].execute(model=model, precision="auto", backend="auto").args[0]

    return loaded


@pytest.fixture
def full(pack: Any, tiny: OneStepRestorer) -> Any:
    """The tiny restorer, of the classes that the pack sees."""
    own, core = (__import__(f"{pack.__name__}.{n}", fromlist=["x"]) for n in ("nodes.fr_model", "quantface_core"))
    restorer = core.OneStepRestorer(core.RestorerConfig.from_dict(tiny.config.to_dict())).eval().requires_grad_(False)
    restorer.load_state_dict(tiny.state_dict())
    return own.FRModel("tiny", restorer)


@pytest.fixture
def restore(nodes: dict[str, Any], full: Any) -> Any:
    """A function from pictures, a model and changed settings to Restore Face's outputs and its preview.

    Without a model, the tiny one, for what does not depend on how good its faces are.
    """

    def restored(image: torch.Tensor, model: Any = None, **changes: Any) -> tuple[Any, ...]:
        node = nodes["QuantFace_RestoreFace"]
        result = node.execute(fr_model=model or full, image=image, **{**RESTORE, **changes})
        return (*result.args, result.ui)

    return restored


@pytest.fixture
def photo(astronaut: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(astronaut.astype(np.float32) / 255)[None]


@pytest.fixture
def portrait(photo: torch.Tensor) -> torch.Tensor:
    """A quarter of the photo's pixels, with its face: where several are searched."""
    return photo[:, :256, 96:352]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[ComfyUI]:
    """A ComfyUI whose input folder has a photo of three faces, beside what the pack puts there."""
    if "COMFYUI_PATH" not in os.environ:
        pytest.skip("needs COMFYUI_PATH, a ComfyUI checkout")
    base = tmp_path_factory.mktemp("comfyui")
    (base / "input").mkdir()
    faces = [cv2.imread(str(path)) for path in sorted((photos.parent / "faces" / "large").glob("*.jpg"))[:3]]
    cv2.imwrite(str(base / "input" / "three.png"), np.concatenate(faces, axis=1))
    others = base / "models" / "facerestore_models"
    others.mkdir(parents=True)
    # No model that would load: keys alone say what a file is.
    for name in FILES:
        torch.save({key.decode(): torch.zeros(1) for key in KEYS[name]}, others / FILES[name])
    running = ComfyUI(Path(os.environ["COMFYUI_PATH"]), base)
    yield running
    running.stop()
