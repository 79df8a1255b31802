"""One restorer in one safetensors file that describes itself.

Tensors keep the names of the restorer's `state_dict()`; the metadata holds the format, its version, the configuration
and, for low-bit layers, their formats, as JSON. Codes are packed to their bit width. Names, shapes and dtypes are all
checked before any tensor is read.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..errors import ModelError, UsageError
from ..kernels.dispatch import auto_dtype
from ..quant.formats import add_low_bit_layers, formats_from_json, stored_as_is
from ..quant.model_file import (
    RESTORER,
    building,
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
from ..runtime.device import usable_device
from .atomic import remove_stale
from .face_restorers import architecture_in, read_published, warn_of_licence

__all__ = ["load_restorer", "read_notes", "save_restorer"]


def read_notes(path: Path) -> dict[str, str]:
    """Return the notes stored in a file's metadata; a published file has none. Raises ModelError."""
    return {} if architecture_in(path) else read_own_notes(path)


def save_restorer(
    model: RestorerModel,
    path: str | Path,
    dtype: torch.dtype | None = None,
    config: Config | None = None,
    notes: dict[str, str] | None = None,
) -> None:
    """Write a restorer atomically: its float weights as `dtype`, its low-bit layers unchanged.

    `dtype` None is the restorer's own `file_dtype`, float16 or float32. `notes` (licence, training, ...) go into the
    metadata beside the configuration, after the licence that the family itself defines. Raises UsageError for a note
    that is not text or has a name reserved by the format, a configuration that JSON cannot hold, or a model that is no
    `RestorerModel`, ModelError when a weight does not fit `dtype`, WriteError.
    """
    if not isinstance(model, RestorerModel):
        kind = type(model).__name__
        raise UsageError(f"save_restorer writes a RestorerModel, got a {kind}: save_quantized writes any low-bit model")
    try:
        described = {"format": RESTORER, "config": json.dumps((config or model.config).to_dict())}
    except (TypeError, ValueError) as error:
        raise UsageError(f"to_dict of a {model.family} configuration returns what JSON cannot hold: {error}") from error
    if model.family != DEFAULT:
        described["family"] = model.family
    licence = {"licence": model.licence} if model.licence else {}
    remove_stale(Path(path))
    write_model(model, Path(path), described, {**licence, **(notes or {})}, dtype or model.file_dtype)


def load_restorer(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = torch.float32,
    prefixes: tuple[str, ...] | None = None,
) -> RestorerModel:
    """Read a restorer onto `device` as `dtype`, in evaluation mode: a QuantFace file or a published one.

    `device` is one of torch's, or "auto": a GPU if there is one. `dtype` None means `auto_dtype`: float32, or
    `fast_dtype(device)` for a low-bit model. Only tensors whose names start with one of `prefixes` are read, None =
    all; the rest of the model stays on the "meta" device. Published files (see `face_restorers.py`) are always read in
    full.

    Raises ModelError when the file is missing, truncated, of another kind, or not what its metadata says; UsageError
    when `dtype` is not a float dtype or `device` is not available.
    """
    path = Path(path)
    if not path.suffix and not path.exists():  # a model's name, more likely
        raise ModelError(
            f"{path}: no such model file: load_restorer(restorer_path({str(path)!r})) loads it by its name"
        )
    check_dtype(dtype)
    device = usable_device(device)
    if published := architecture_in(path):
        return read_published(path, published, device, dtype or torch.float32)
    with opened(path) as file:
        metadata = read_header(path, file.metadata(), RESTORER)
        kind = family(metadata.get("family", DEFAULT))
        table = read_json(path, metadata.get("config", ""), "configuration")
        with building(path), torch.device("meta"):
            model = kind.build(kind.read_config(table))
        warn_of_licence(path.name, model.licence)
        add_low_bit_layers(model, formats_from_json(metadata.get("layers"), model))
        fixed = stored_as_is(model)
        if dtype is None:
            dtype = auto_dtype(device, bool(fixed))
        check_layout(path, file, model.state_dict(), fixed)
        chosen = [name for name in file.keys() if prefixes is None or name.startswith(prefixes)]  # noqa: SIM118
        tensors = read_tensors(path, file, chosen, fixed, model, device, dtype)
    model.to(dtype).load_state_dict(tensors, strict=False, assign=True)  # the layout was checked
    tensors.clear()
    # Convolutions on CPU run up to three times faster on channels-last weights.
    model.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
