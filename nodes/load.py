"""Load Quantized FR Model."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..quantface_core.kernels.backend import CHOICES as BACKENDS
from . import host
from .host import FRModel, FRModelSocket
from .making import make

if TYPE_CHECKING:
    from ..quantface_core.io.catalogue import Entry

PRECISIONS = ["auto", "float32", "bfloat16"]
_MARK = re.compile(r" \((bundled|local|fetch|build)\)$")


def choices() -> list[str]:
    """Models by name, marked by what choosing one takes, the default first; then files in models/quantface."""
    from ..quantface_core.types import DEFAULT_RESTORER

    known = known_files()
    order = {"bundled": 0, "local": 1, "fetch": 2, "build": 3}
    marks = {name: _mark(name, file) for name, file in known.items()}
    names = sorted(known, key=lambda name: (name != DEFAULT_RESTORER, order[marks[name]]))
    # One with a bundled model's file name is another model: that is in the package.
    own = {file for name, file in known.items() if marks[name] != "bundled"}
    files = [name for name in host.model_files() if name not in own]
    return [f"{name} ({marks[name]})" for name in names] + files


def known_files() -> dict[str, str]:
    """The files of all models that have names: the catalogues', and what shipped recipes make of those."""
    from ..quantface_core.io.recipes import known_recipes, load_recipe

    entries = _entries()
    files = {name: entry.file for name, entry in entries.items()}
    for name in known_recipes():
        recipe = load_recipe(name)
        # Trained ones ask for a folder of faces; what there is to make of a bundled one is bundled.
        if recipe.distill is None and recipe.source in entries and not entries[recipe.source].bundled:
            files.setdefault(name, f"{name}.safetensors")
    return files


def _entries() -> dict[str, Entry]:
    """The catalogues' restorers. One that cannot be read is a warning: it must not take the pack's nodes away."""
    from ..quantface_core.errors import ConfigError
    from ..quantface_core.io.catalogue import catalogue, shipped_catalogue

    try:
        return catalogue()["restorers"]
    except ConfigError as error:
        logging.warning("QuantFace: %s", error)
        return shipped_catalogue()["restorers"]


def _mark(name: str, file: str) -> str:
    """`bundled` with the pack; `local`: there already; `fetch`: from the Hub; `build`: from its authors' files."""
    entry = _entries().get(name)
    if entry and entry.bundled:
        return "bundled"
    if host.model_file(file):
        return "local"
    return "fetch" if entry and entry.repo else "build"


def _file(model: str) -> Path | None:
    """The file of a choice, whose mark a saved workflow may have from elsewhere; None when it is yet to be made.

    Raises ModelError when there is no such model, or its file is damaged.
    """
    from ..quantface_core.errors import ModelError
    from ..quantface_core.io.models import restorer_path

    name, known = _MARK.sub("", model), known_files()
    if name not in known:
        path = host.model_file(model) or host.model_file(model.replace("\\", "/"))  # saved on Windows
        if path is None:
            raise ModelError(f"model: {model} is not in models/{host.FOLDER}: put it there and press R to refresh")
        return path
    entry, path = _entries().get(name), host.model_file(known[name])
    return restorer_path(name) if entry and (entry.bundled or (path and entry.sha256)) else path


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_LoadModel",
            display_name="Load Quantized FR Model",
            description="Loads a face restorer: a known one by name, or a file from models/quantface.",
            search_aliases=["face restoration", "restore", "OSDFace", "quantface", "gfpgan", "codeformer"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=choices(),
                    tooltip="bundled and local work offline; fetch downloads once; build makes it once, from its "
                    "authors' files. Others are files in models/quantface.",
                ),
                io.Combo.Input(
                    "precision",
                    options=PRECISIONS,
                    default="auto",
                    tooltip="Of what is not integers. auto: bfloat16 on GPUs that have it and, for low-bit models, on "
                    "processors that have it; else float32.",
                ),
                io.Combo.Input(
                    "backend",
                    options=list(BACKENDS),
                    default="auto",
                    tooltip="What computes the integers. onednn: fast on x86 processors; triton: fast on NVIDIA GPUs; "
                    "reference: any device. One that cannot run here leaves the choice to auto.",
                ),
            ],
            outputs=[FRModelSocket.Output("fr_model", display_name="FR_MODEL")],
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        from ..quantface_core.errors import QuantFaceError

        try:
            if model is not None:
                _file(model)
        except QuantFaceError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, model: str | None = None, **_: str) -> str:
        from ..quantface_core.io.models import known_sha256

        path = None if model is None else _file(model)  # None: another node gives it
        if path is None:  # its name, when it is fetched or built at the run
            return _MARK.sub("", model or "")
        return known_sha256(path)

    @classmethod
    def execute(cls, model: str, precision: str, backend: str) -> io.NodeOutput:
        import torch

        from ..quantface_core import load_restorer
        from ..quantface_core.kernels.dispatch import backend_name, preferred_backend
        from ..quantface_core.nn.swap import prefer

        host.insist(cls.validate_inputs(model))
        for name, value, known in (("precision", precision, PRECISIONS), ("backend", backend, BACKENDS)):
            host.insist(value in known or f"{name} {value!r}: one of {', '.join(known)}")
        name = _MARK.sub("", model)
        asked = None if backend == "auto" else backend
        chosen = preferred_backend(host.compute_device(), asked)
        if asked and asked != backend_name(chosen):  # a shared workflow opens everywhere
            logging.warning("QuantFace: backend %s cannot run here, %s computes", asked, backend_name(chosen))
        with torch.inference_mode(False):
            restorer = load_restorer(_file(model) or make(name), dtype=host.compute_dtype(precision))
            if asked:
                prefer(restorer, chosen)
        return io.NodeOutput(FRModel(name.removesuffix(".safetensors"), restorer))
