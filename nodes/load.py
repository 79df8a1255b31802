"""Load Quantized FR Model."""

from __future__ import annotations

import logging
from pathlib import Path

from comfy_api.latest import io

from ..quantface_core.types import PRECISIONS
from . import host
from .fr_model import FRModel
from .host import FRModelSocket, with_options

_made: dict[str, str] = {}  # versions, by name, of model files that this process fetched or built


def _file(model: str) -> Path | None:
    """The file of a choice; None if it has yet to be fetched or built. Raises ModelError."""
    from ..quantface_core.io.model_menu import choice_path

    folder = host.OTHERS if model.startswith(f"{host.OTHERS}/") else host.FOLDER
    name = model.removeprefix(f"{host.OTHERS}/")
    missing = f"model: {name} is not in models/{folder}: put it there and press R to refresh"
    return choice_path(model, host.model_file, missing)


def _fetched(name: str) -> Path:
    """Fetch or build a model, with progress on the node; return its file. Raises ModelError."""
    from ..quantface_core.pipelines.child import fetch_in_child

    path = fetch_in_child(name, host.Progress().callbacks())
    _made[name] = _version(path)
    return path


def _version(path: Path) -> str:
    """A value that changes with the file. Not a checksum, which takes seconds: the host asks for it before any node
    runs, without progress and without heeding cancel.
    """
    from ..quantface_core.io.file_identity import file_version

    return repr((str(path), *file_version(path)))


class LoadModel(io.ComfyNode):
    """Loads a restorer, by a known name or from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        from ..quantface_core.io.face_restorers import has_fidelity
        from ..quantface_core.io.model_menu import menu_choices
        from ..quantface_core.kernels.dispatch import backend_choices

        files = host.model_files()
        model = io.Combo.Input(
            "model",
            options=menu_choices(host.model_file, files),
            tooltip="bundled and local work offline; fetch downloads the model once; build makes it once, from its "
            "authors' files. The rest are files in models/quantface, and GFPGAN, RestoreFormer and CodeFormer in "
            "models/facerestore_models.",
        )
        return host.schema(
            node_id="QuantFace_LoadModel",
            display_name="Load Quantized FR Model",
            description="Loads a face restorer, by name or from a file.",
            search_aliases=["face restoration", "restore", "OSDFace", "quantface", "gfpgan", "codeformer"],
            inputs=[
                # The page shows Restore Face's fidelity for these.
                with_options(model, fidelity=[name for name in files if has_fidelity(host.model_file(name))]),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="auto",
                    tooltip="Precision of everything but the integers. auto: bfloat16 on GPUs that support it and, for "
                    "low-bit models, on CPUs that support it; otherwise float32.",
                ),
                io.Combo.Input(
                    "backend",
                    options=list(backend_choices()),
                    default="auto",
                    tooltip="What computes the integer layers. onednn: fast on x86 CPUs; triton: fast on NVIDIA GPUs; "
                    "half: NVIDIA GPUs without Triton; reference: any device. One that cannot run here falls back to "
                    "auto.",
                ),
            ],
            outputs=[
                FRModelSocket.Output(
                    "fr_model", display_name="FR_MODEL", tooltip="For Restore Face and the other QuantFace nodes."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, model: object = None) -> bool | str:
        """True, or an error message. A linked value is None until its node has run; JSON may hold any other kind."""
        from ..quantface_core.errors import QuantFaceError

        try:
            if model is not None:
                _file(str(model))
        except QuantFaceError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, model: str | None = None, **_: str) -> str:
        from ..quantface_core.io.model_menu import strip_mark

        name = strip_mark(model or "")
        path = None if model is None else _file(model)  # None: another node supplies it
        if path is None:  # fetched or built when the node runs
            return name
        version = _version(path)
        # A file that the last run fetched or built is what was asked for: the next run need not load it again.
        return name if _made.get(name) == version else version

    @classmethod
    def execute(cls, model: str, precision: str, backend: str) -> io.NodeOutput:
        import torch

        from ..quantface_core import load_restorer
        from ..quantface_core.io.model_menu import strip_mark
        from ..quantface_core.kernels.dispatch import backend_choices, backend_name, preferred_backend
        from ..quantface_core.nn.swap import prefer
        from ..quantface_core.pipelines.models import notes_of

        host.require_valid(model is not None or "model: choose one")
        host.require_valid(cls.validate_inputs(model))
        for name, value, known in (("precision", precision, PRECISIONS), ("backend", backend, backend_choices())):
            host.require_valid(value in known or f"{name} {value!r}: one of {', '.join(known)}")
        name = strip_mark(model)
        asked = None if backend == "auto" else backend
        chosen = preferred_backend(host.compute_device(), asked)
        if asked and asked != backend_name(chosen):  # a shared workflow opens everywhere
            logging.warning("QuantFace: backend %s cannot run here, using %s", asked, backend_name(chosen))
        with torch.inference_mode(False):
            path = _file(model) or _fetched(name)
            restorer = load_restorer(path, dtype=host.compute_dtype(precision))
            if asked:
                prefer(restorer, chosen)
        label = name.removesuffix(".safetensors").removesuffix(".pth")
        return io.NodeOutput(FRModel(label, restorer, notes_of(path)))
