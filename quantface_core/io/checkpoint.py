"""One restorer in one safetensors file that describes itself.

Tensors keep the names of `OneStepRestorer.state_dict()`; the metadata holds the format, its version, the
configuration and, where layers are of low bits, their formats, as JSON. Integers are packed to their bits.
A file is checked in full, names, shapes and dtypes, before a tensor is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import ConfigError, ModelError
from ..kernels.dispatch import fast_dtype
from ..nn.swap import quant_layers
from ..restorer import OneStepRestorer, RestorerConfig
from .atomic import atomic_path
from .formats import add_low_bit_layers, check_scales, formats_to_json, stored_as_is

FORMAT, VERSION = "quantface", "1"
_FLOATS = ("F32", "F16", "BF16")
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.uint8: "U8"}
_SHOWN = 3  # names in an error message


def save_restorer(
    model: OneStepRestorer,
    path: Path,
    dtype: torch.dtype = torch.float16,
    config: RestorerConfig | None = None,
    notes: dict[str, str] | None = None,
) -> None:
    """Write a restorer atomically: its float weights as `dtype`, its low-bit layers as they are.

    `notes` (licence, training, ...) go into the metadata beside the configuration. Raises ModelError
    when a weight does not fit `dtype` or the file cannot be written.
    """
    fixed = stored_as_is(model)
    tensors = {
        name: t.detach().to("cpu", t.dtype if name in fixed else dtype).contiguous()
        for name, t in model.state_dict().items()
    }
    broken = [name for name, t in tensors.items() if not torch.isfinite(t).all()]
    if broken:
        raise ModelError(f"weights are not finite as {dtype}: {_some(broken)}")
    metadata = {**(notes or {}), "format": FORMAT, "version": VERSION}
    metadata["config"] = json.dumps((config or model.config).to_dict())
    if quant_layers(model):
        metadata["layers"] = formats_to_json(model)
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata)
            _sort_metadata(temporary)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot write ({error})") from error


def _sort_metadata(path: Path) -> None:
    """Put the header's metadata in order: the library's own changes from run to run, and with it a file's checksum."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def load_restorer(
    path: Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = torch.float32,
    only: tuple[str, ...] = ("",),
) -> OneStepRestorer:
    """Read a restorer, converted to `dtype` on `device`, in evaluation mode.

    None leaves the dtype to the file: float32, and for a low-bit model what `fast_dtype` says.
    `only` names the beginnings of the tensors to read; the rest of the model then stays empty (on "meta").

    Raises ModelError when the file is missing, truncated, of another kind, or not what it says it is.
    """
    try:
        with safe_open(path, framework="pt") as file:
            config = _read_config(path, file.metadata())
            model = _build(path, config)
            add_low_bit_layers(model, (file.metadata() or {}).get("layers"))
            fixed = stored_as_is(model)
            if dtype is None:
                dtype = fast_dtype(torch.device(device)) if fixed else torch.float32
            _check_layout(path, file, model.state_dict(), fixed)
            # Copied, or the mapped file would stay in memory beside the layers whose layout changes below.
            tensors = {
                name: file.get_tensor(name).to(device, None if name in fixed else dtype, copy=name not in fixed)
                for name in file.keys()  # noqa: SIM118
                if name.startswith(only)
            }
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged, or no safetensors file ({error})") from error
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error
    broken = [name for name, t in tensors.items() if not torch.isfinite(t).all()]
    if broken:
        raise ModelError(f"{path}: damaged, not finite: {_some(broken)}")
    wrong = check_scales(tensors, fixed & set(tensors))
    if wrong:
        raise ModelError(f"{path}: damaged, scales are zero or negative: {_some(wrong)}")
    model.to(dtype).load_state_dict(tensors, strict=False, assign=True)  # the layout was checked
    tensors.clear()
    # Convolutions on CPU run up to three times faster on channels-last weights.
    model.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def read_notes(path: Path) -> dict[str, str]:
    """What a file's maker noted beside the model: licence, settings, reports. Raises ModelError."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged, or no safetensors file ({error})") from error
    return {key: value for key, value in metadata.items() if key not in ("format", "version", "config", "layers")}


def _read_config(path: Path, metadata: dict[str, str] | None) -> RestorerConfig:
    metadata = metadata or {}
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path}: not a QuantFace checkpoint (its metadata names no format {FORMAT!r})")
    if metadata.get("version") != VERSION:
        found = metadata.get("version", "none")
        raise ModelError(f"{path}: format version {found!r:.20}, this release reads {VERSION!r}: update QuantFace")
    try:
        data: Any = json.loads(metadata.get("config", ""))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: its configuration is not JSON ({error})") from error
    return RestorerConfig.from_dict(data)


def _build(path: Path, config: RestorerConfig) -> OneStepRestorer:
    """The architecture without its memory; sizes are within limits, but may still not fit each other."""
    try:
        with torch.device("meta"):
            return OneStepRestorer(config)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, NotImplementedError) as error:
        raise ModelError(f"{path}: cannot build the network it describes ({error})".replace("\n", " ")) from error


def _check_layout(path: Path, file: Any, expected: dict[str, Tensor], fixed: set[str]) -> None:
    """Raise ModelError unless the file holds exactly the expected names, shapes and dtypes."""
    names = set(file.keys())
    missing, extra = sorted(set(expected) - names), sorted(names - set(expected))
    if missing or extra:
        raise ModelError(f"{path}: tensors missing: {_some(missing)}; not expected: {_some(extra)}")
    for name, tensor in expected.items():
        found = file.get_slice(name)
        if list(found.get_shape()) != list(tensor.shape):
            raise ModelError(f"{path}: {name} has shape {found.get_shape()}, expected {list(tensor.shape)}")
        known = [_NAMES[tensor.dtype]] if name in fixed else list(_FLOATS)
        if found.get_dtype() not in known:
            raise ModelError(f"{path}: {name} is {found.get_dtype()}, expected {' or '.join(known)}")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) or "none"
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
