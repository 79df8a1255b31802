"""Load Quantized FR Model."""

from __future__ import annotations

import logging
import re
from typing import Any

from comfy_api.latest import io

from . import host
from .host import FRModel, FRModelSocket

PRECISIONS = ["auto", "float32", "bfloat16"]
BACKENDS = ["auto", "onednn", "triton", "reference"]
_MARK = re.compile(r" \((bundled|local|fetch|build)\)$")


def choices() -> list[str]:
    """Models by name, marked by what choosing one takes, the default first; then files in models/quantface."""
    from ..quantface_core.io.models import catalogue
    from ..quantface_core.types import DEFAULT_RESTORER

    known = catalogue()["restorers"]
    order = {"bundled": 0, "local": 1, "fetch": 2, "build": 3}
    names = sorted(known, key=lambda name: (name != DEFAULT_RESTORER, order[_mark(known[name])]))
    own = {entry.file for entry in known.values()}
    files = [name for name in host.model_files() if name not in own]
    return [f"{name} ({_mark(known[name])})" for name in names] + files


def _mark(entry: Any) -> str:
    """`bundled` with the pack; `local`: there already; `fetch`: from the Hub; `build`: from its authors' files."""
    from ..quantface_core.io.models import models_folder

    if entry.bundled:
        return "bundled"
    if (models_folder() / entry.file).is_file():
        return "local"
    return "fetch" if entry.repo else "build"


def located(model: str) -> str:
    """What the library opens for a choice, fetched or built if need be. Raises ModelError."""
    from ..quantface_core.io.models import restorer_path

    return str(restorer_path(_named(model)))


def _named(model: str) -> str:
    """A choice as the library names it: without its mark (a saved workflow's may be old), or a file's whole path.

    Raises ModelError when there is no such model.
    """
    from ..quantface_core.errors import ModelError
    from ..quantface_core.io.models import catalogue

    name = _MARK.sub("", model)
    if name in catalogue()["restorers"]:
        return name
    path = host.model_file(model)
    if path is None:
        raise ModelError(f"model: {model} is not in models/{host.FOLDER}: put it there and press R to refresh")
    return str(path)


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
                    options=BACKENDS,
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
                _named(model)
        except QuantFaceError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, model: str, **_: str) -> str:
        from pathlib import Path

        from ..quantface_core.io.models import catalogue, models_folder, restorer_path, sha256

        name = _named(model)
        entry = catalogue()["restorers"].get(name)
        if entry and not entry.bundled and not (models_folder() / entry.file).is_file():
            return name  # to be fetched or built when the node runs, not now
        return sha256(Path(restorer_path(name)))

    @classmethod
    def execute(cls, model: str, precision: str, backend: str) -> io.NodeOutput:
        from pathlib import Path

        import torch

        from ..quantface_core import load_restorer
        from ..quantface_core.kernels.dispatch import backend_name, preferred_backend
        from ..quantface_core.nn.swap import prepare

        asked = None if backend == "auto" else backend
        chosen = preferred_backend(host.compute_device(), asked)
        if asked and asked != backend_name(chosen):  # a shared workflow opens everywhere
            logging.warning("QuantFace: backend %s cannot run here, %s computes", asked, backend_name(chosen))
        with torch.inference_mode(False):
            restorer = load_restorer(Path(located(model)), dtype=host.compute_dtype(precision))
            prepare(restorer, chosen, preferred=asked is not None)
        return io.NodeOutput(FRModel(_MARK.sub("", model).removesuffix(".safetensors"), restorer))
