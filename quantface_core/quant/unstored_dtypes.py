"""The dtypes of a quantized model that no tensor in its file shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..nn.swap import quant_layers
from .formats import stored_as_is
from .model_file import read_json

_DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float64, torch.float16, torch.bfloat16)}
_LOW_BIT = ""  # the key of all low-bit layers, beside names of tables


def describe_dtypes(model: nn.Module) -> dict[str, str]:
    """Metadata that names what is not float32: tables beside the state, by name; low-bit layers if all weights are.

    Tables are non-persistent buffers, such as positions, which a model's class builds anew. Empty if all are float32.
    """
    state, fixed = model.state_dict(), stored_as_is(model)
    dtypes = {name: table.dtype for name, table in _tables(model).items()}
    if not any(t.is_floating_point() for name, t in state.items() if name not in fixed):
        dtypes[_LOW_BIT] = next(iter(quant_layers(model).values())).placeholder.dtype
    names = {dtype: name for name, dtype in _DTYPES.items()}
    named = {name: names[dtype] for name, dtype in dtypes.items() if dtype in names}
    return {"dtypes": json.dumps(named)} if named else {}


def read_dtypes(path: Path, metadata: Mapping[str, str]) -> dict[str, torch.dtype]:
    """What `describe_dtypes` put into a file's metadata. Raises ModelError."""
    table: Any = read_json(path, metadata.get("dtypes", "{}"), "dtypes")
    if not isinstance(table, dict) or not all(isinstance(v, str) and v in _DTYPES for v in table.values()):
        raise ModelError(f"{path}: its dtypes are not a table of {', '.join(_DTYPES)}")
    return {name: _DTYPES[value] for name, value in table.items()}


def apply_dtypes(model: nn.Module, dtypes: Mapping[str, torch.dtype]) -> None:
    """Cast a loaded model's tables and low-bit layers, in place; names that it lacks are of no effect."""
    for name, table in _tables(model).items():
        if name in dtypes:
            owner, _, key = name.rpartition(".")
            model.get_submodule(owner)._buffers[key] = table.to(dtypes[name])
    if _LOW_BIT in dtypes:
        for layer in quant_layers(model).values():
            layer.follow_dtype(dtypes[_LOW_BIT])


def _tables(model: nn.Module) -> dict[str, Tensor]:
    """The floating-point buffers that are not in the model's state, by name."""
    state = model.state_dict()
    return {name: t for name, t in model.named_buffers() if name not in state and t.is_floating_point()}
