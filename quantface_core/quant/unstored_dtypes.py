"""The dtypes of a quantized model that no tensor in its file shows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..nn.swap import quant_layers
from .formats import stored_as_is
from .model_file import read_json

_DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float32, torch.float64, torch.float16, torch.bfloat16)}
_LOW_BIT = ""  # the key of all low-bit layers, beside names of layers and tables


def describe_dtypes(model: nn.Module) -> dict[str, str]:
    """Metadata that names the dtypes: of tables that are not float32, and of low-bit layers unlike most other weights.

    Tables are non-persistent buffers, such as positions, which a model's class builds anew. Low-bit layers have one
    entry for all if there are no other weights and most are not float32. Empty if nothing has to be named.
    """
    followed = followed_dtype(model.state_dict(), stored_as_is(model))
    own = {name: layer.placeholder.dtype for name, layer in quant_layers(model).items()}
    most = followed or Counter(own.values()).most_common(1)[0][0]
    dtypes = {name: table.dtype for name, table in _tables(model).items()}
    if followed is None:
        dtypes[_LOW_BIT] = most
    dtypes = {name: dtype for name, dtype in dtypes.items() if dtype != torch.float32}
    dtypes |= {name: dtype for name, dtype in own.items() if dtype != most}
    names = {dtype: name for name, dtype in _DTYPES.items()}
    named = {name: names[dtype] for name, dtype in dtypes.items() if dtype in names}
    return {"dtypes": json.dumps(named)} if named else {}


def followed_dtype(tensors: Mapping[str, Tensor], fixed: set[str]) -> torch.dtype | None:
    """The dtype that low-bit layers have unless metadata says otherwise: that of most tensors of a model's state that
    are not `fixed`, which are theirs; None = there are none.
    """
    states = (t for name, t in tensors.items() if name not in fixed and isinstance(t, Tensor))
    others = Counter(t.dtype for t in states if t.is_floating_point())
    return others.most_common(1)[0][0] if others else None


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
    for name, layer in quant_layers(model).items():
        if (dtype := dtypes.get(name, dtypes.get(_LOW_BIT))) is not None:
            layer.follow_dtype(dtype)


def _tables(model: nn.Module) -> dict[str, Tensor]:
    """The floating-point buffers that are not in the model's state, by name."""
    state = model.state_dict()
    return {name: t for name, t in model.named_buffers() if name not in state and t.is_floating_point()}
