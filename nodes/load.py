"""Load Quantized FR Model."""

from __future__ import annotations

from comfy_api.latest import io

from . import host
from .host import FRModel, FRModelSocket

_BUNDLED = " (bundled)"
PRECISIONS = ["auto", "float32", "bfloat16"]
BACKENDS = ["auto", "onednn", "reference"]


def choices() -> list[str]:
    """The default first: models that need no download, then files in models/quantface."""
    from ..quantface_core.io.models import catalogue
    from ..quantface_core.types import DEFAULT_RESTORER

    bundled = [name for name, entry in catalogue()["restorers"].items() if entry.bundled]
    bundled.sort(key=lambda name: name != DEFAULT_RESTORER)
    return [name + _BUNDLED for name in bundled] + host.model_files()


def located(model: str) -> str:
    """What the library opens for a choice. Raises ModelError."""
    from ..quantface_core.errors import ModelError
    from ..quantface_core.io.models import restorer_path

    if model.endswith(_BUNDLED):
        return str(restorer_path(model.removesuffix(_BUNDLED)))
    path = host.model_file(model)
    if path is None:
        raise ModelError(f"{model} is not in models/{host.FOLDER}: put it there and press R to refresh")
    return str(path)


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_LoadModel",
            display_name="Load Quantized FR Model",
            description="Loads a face restorer: a bundled one, or a file from models/quantface.",
            search_aliases=["face restoration", "restore", "OSDFace", "quantface", "gfpgan", "codeformer"],
            inputs=[
                io.Combo.Input("model", options=choices(), tooltip="4-bit models are marked w4a4; all work offline."),
                io.Combo.Input(
                    "precision",
                    options=PRECISIONS,
                    default="auto",
                    tooltip="Of what is not integers. auto: bfloat16 on GPUs that have it, else float32.",
                ),
                io.Combo.Input(
                    "backend",
                    options=BACKENDS,
                    default="auto",
                    tooltip="What computes the integers. onednn: fast on x86 processors; reference: any device.",
                ),
            ],
            outputs=[FRModelSocket.Output("fr_model", display_name="FR_MODEL")],
        )

    @classmethod
    def validate_inputs(cls, model: str) -> bool | str:
        from ..quantface_core.errors import QuantFaceError

        try:
            located(model)
        except QuantFaceError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, model: str, **_: str) -> str:
        from pathlib import Path

        from ..quantface_core.io.models import sha256

        return sha256(Path(located(model)))

    @classmethod
    def execute(cls, model: str, precision: str, backend: str) -> io.NodeOutput:
        from pathlib import Path

        import torch

        from ..quantface_core import load_restorer
        from ..quantface_core.kernels.dispatch import choose_backend
        from ..quantface_core.nn.swap import prepare

        chosen = choose_backend(host.compute_device(), None if backend == "auto" else backend)
        with torch.inference_mode(False):
            restorer = load_restorer(Path(located(model)), dtype=host.compute_dtype(precision))
            prepare(restorer, chosen)
        return io.NodeOutput(FRModel(model.removesuffix(_BUNDLED), restorer))
