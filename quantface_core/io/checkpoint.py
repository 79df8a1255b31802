"""One restorer in one safetensors file that describes itself.

Tensors keep the names of the restorer's `state_dict()`; the metadata holds the format, its version, the
configuration and, where layers are of low bits, their formats, as JSON. Integers are packed to their bits.
A file is checked in full, names, shapes and dtypes, before a tensor is read.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..kernels.dispatch import fast_dtype
from ..quant.formats import add_low_bit_layers, formats_from_json, stored_as_is
from ..quant.model_file import (
    RESTORER,
    building,
    check_device,
    check_dtype,
    check_layout,
    opened,
    read_header,
    read_json,
    read_tensors,
    write_model,
)
from ..quant.model_file import read_notes as read_own_notes
from ..restorer.families import DEFAULT, family
from ..restorer.interface import Config, RestorerModel
from .face_restorers import architecture_in, read_published, say_licence

__all__ = ["load_restorer", "read_notes", "save_restorer"]


def read_notes(path: Path) -> dict[str, str]:
    """What a file's maker noted beside the model; a published file notes nothing. Raises ModelError."""
    return {} if architecture_in(path) else read_own_notes(path)


def save_restorer(
    model: RestorerModel,
    path: str | Path,
    dtype: torch.dtype | None = None,
    config: Config | None = None,
    notes: dict[str, str] | None = None,
) -> None:
    """Write a restorer atomically: its float weights as `dtype`, its low-bit layers as they are.

    None is what the restorer says, float16 or float32. `notes` (licence, training, ...) go into the metadata beside
    the configuration, and the licence that a family knows by itself. Raises UsageError for a note that is no text or
    named as the format's own, ModelError when a weight does not fit `dtype`, WriteError.
    """
    described = {"format": RESTORER, "config": json.dumps((config or model.config).to_dict())}
    if model.family != DEFAULT:
        described["family"] = model.family
    licence = {"licence": model.licence} if model.licence else {}
    write_model(model, Path(path), described, {**licence, **(notes or {})}, dtype or model.file_dtype)


def load_restorer(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = torch.float32,
    only: tuple[str, ...] = ("",),
) -> RestorerModel:
    """Read a restorer, converted to `dtype` on `device`, in evaluation mode: a file of ours, or a published one.

    None leaves the dtype to the file: float32, and for a low-bit model what `fast_dtype` says.
    What published files are is in `face_restorers.py`; such a one is read as a whole.
    `only` names the beginnings of the tensors to read; the rest of the model then stays empty (on "meta").

    Raises ModelError when the file is missing, truncated, of another kind, or not what it says it is; UsageError when
    `dtype` is no float's or `device` is not here.
    """
    path = Path(path)
    check_dtype(dtype)
    check_device(device)
    if published := architecture_in(path):
        return read_published(path, published, device, dtype or torch.float32)
    with opened(path) as file:
        metadata = read_header(path, file.metadata(), RESTORER)
        kind = family(metadata.get("family", DEFAULT))
        config = kind.read_config(read_json(path, metadata.get("config", ""), "configuration"))
        with building(path), torch.device("meta"):
            model = kind.build(config)
        say_licence(path.name, model.licence)
        add_low_bit_layers(model, formats_from_json(metadata.get("layers"), model))
        fixed = stored_as_is(model)
        if dtype is None:
            dtype = fast_dtype(torch.device(device)) if fixed else torch.float32
        check_layout(path, file, model.state_dict(), fixed)
        chosen = [name for name in file.keys() if name.startswith(only)]  # noqa: SIM118
        parameters = [name for name, _ in model.named_parameters()]
        tensors = read_tensors(path, file, chosen, fixed, parameters, device, dtype)
    model.to(dtype).load_state_dict(tensors, strict=False, assign=True)  # the layout was checked
    tensors.clear()
    # Convolutions on CPU run up to three times faster on channels-last weights.
    model.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
