"""Save quantized models to files and load them: `save_quantized` and `load_quantized`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..errors import UsageError, first_few
from ..io.atomic import remove_stale
from ..kernels.dispatch import choose_backend
from ..nn.modes import device_of
from ..nn.swap import prefer, quant_layers
from ..runtime.compiled import original
from ..runtime.device import usable_device
from .diffusers_model import build, describe
from .formats import add_low_bit_layers, formats_from_json, low_bit_state
from .model_file import (
    FORMAT,
    check_dtype,
    check_layout,
    opened,
    read_header,
    read_tensors,
    write_model,
)
from .pretrained import attach_quantizer
from .unstored_dtypes import apply_dtypes, describe_dtypes, followed_dtype, read_dtypes


def save_quantized(
    model: nn.Module, path: str | Path, dtype: torch.dtype | None = None, notes: Mapping[str, str] | None = None
) -> None:
    """Write a quantized model atomically: low-bit layers unchanged, other floating-point weights as `dtype`.

    None keeps every dtype, also of tables beside the state (non-persistent buffers, as PixArt's positions), so that the
    loaded model computes bit-identical outputs. `notes` (licence, settings, ...) go into the metadata. Diffusers models
    load from the file alone, unless they hold tensors beyond their configuration, such as adapters. Raises UsageError
    when no layer is quantized, `dtype` is not a floating-point dtype, or a note is not text or has a reserved name;
    ModelError when a weight overflows `dtype` or the state holds something other than tensors; WriteError.
    """
    model = original(model)
    if not quant_layers(model):
        raise UsageError(f"no layer of the {type(model).__name__} is quantized: call quantize first")
    remove_stale(Path(path))
    unstored = describe_dtypes(model) if dtype is None else {}
    write_model(model, Path(path), {"format": FORMAT, **describe(model), **unstored}, notes, dtype)


def load_quantized(
    path: str | Path,
    model: nn.Module | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> nn.Module:
    """Load a quantized model, in evaluation mode and without gradients; its other weights as `dtype`, None = as stored.

    A diffusers model is built from its file. Any other needs `model`: one of the same architecture and not quantized,
    with any weights; it is filled in place, and tied weights come back as copies. `device` is where it goes, "auto" =
    a GPU if there is one, None = where `model` is, or the CPU. `backend` names the backend of its low-bit layers,
    built-in or registered; None = the fastest. Raises ModelError when the file is missing, damaged, or of another
    architecture; UsageError when `model` is already quantized or lacks tables that no file holds, `dtype` is not a
    floating-point dtype, `device` is not available, or `backend` cannot run on it; `model` is then left unchanged.
    """
    path, given = Path(path), model
    check_dtype(dtype)
    if model is not None:
        model = original(model)
        if quant_layers(model):
            raise UsageError("the model to fill is quantized already: give one in full precision")
        _check_tables(model)
    if device is None:
        device = "cpu" if model is None or (held := device_of(model)).type == "meta" else held
    device = usable_device(device)
    chosen = choose_backend(device, backend) if backend else None
    with opened(path) as file:
        metadata = read_header(path, file.metadata(), FORMAT)
        dtypes = read_dtypes(path, metadata)
        if model is None:
            model = build(path, metadata)
        formats = formats_from_json(metadata.get("layers"), model)
        expected, fixed = low_bit_state(model, formats)
        check_layout(path, file, expected, fixed)
        tensors = read_tensors(path, file, expected, fixed, model, device, dtype)
    add_low_bit_layers(model, formats)
    model.load_state_dict(tensors, assign=True)
    if followed := followed_dtype(tensors, fixed) or dtype:
        for layer in quant_layers(model).values():
            layer.follow_dtype(followed)
    if dtype is None:
        apply_dtypes(model, dtypes)
    if chosen:
        prefer(model, chosen)
    if "config" in metadata:
        attach_quantizer(model)
    return (model if given is None else given).to(device).requires_grad_(False).eval()


def _check_tables(model: nn.Module) -> None:
    """Raise UsageError for buffers without values that the state, and so a file, does not hold: rotary positions."""
    state = model.state_dict()
    if lost := [name for name, table in model.named_buffers() if table.is_meta and name not in state]:
        raise UsageError(
            f"no file holds {first_few(lost)}, which the model to fill has on the meta device: build it on the CPU, "
            "or within accelerate's init_empty_weights"
        )
