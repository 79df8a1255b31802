"""Save Quantized FR Model."""

from __future__ import annotations

import re
from pathlib import Path

from comfy_api.latest import io, ui

from . import host
from .fr_model import FRModel
from .host import FRModelSocket


class SaveModel(io.ComfyNode):
    """Saves a model to the models folder, where the loader finds it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_SaveModel",
            display_name="Save Quantized FR Model",
            description="Saves a model to models/quantface, where the loader finds it.",
            search_aliases=["save model", "export", "quantface"],
            is_output_node=True,
            inputs=[
                FRModelSocket.Input("fr_model", lazy=True),
                io.String.Input("name", default="my-restorer-w4a4", tooltip="The file's name, without an ending."),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace an existing file of that name."),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        from ..quantface_core.io.model_menu import known_files

        if name is None:
            return True
        if not re.fullmatch(r"[\w][\w.+-]{0,80}", name):
            return f"name {name!r}: use only letters, digits, and - + . _"
        if name in known_files():
            return f"name {name!r}: the loader knows another model by that name, choose another"
        return True

    @classmethod
    def check_lazy_status(cls, name: str, overwrite: bool, fr_model: FRModel | None = None) -> list[str]:
        """Ask the host for the model, which may take hours to make, once its name is known to be free.

        Not in `validate_inputs`, which would also reject repeating a run whose result the host still has.
        """
        _target(name, overwrite)
        return ["fr_model"]

    @classmethod
    def execute(cls, fr_model: FRModel, name: str, overwrite: bool) -> io.NodeOutput:
        from ..quantface_core import __version__, save_restorer

        path = _target(name, overwrite)
        save_restorer(fr_model.restorer, path, notes={**fr_model.notes, "quantface": __version__})
        return io.NodeOutput(ui=ui.PreviewText(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB"))


def _target(name: str, overwrite: bool) -> Path:
    """The file to write. Raises UsageError for a name that cannot be used, or is taken and must not be overwritten."""
    from ..quantface_core.errors import UsageError

    host.require_valid(SaveModel.validate_inputs(name))
    path = host.target_file(name)
    if path.exists() and not overwrite:
        raise UsageError(f"name: {path.name} exists: choose another name, or turn on overwrite")
    return path
