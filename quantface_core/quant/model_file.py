"""A model in one safetensors file that describes itself: how it is written, opened and checked.

Tensors keep the names of the model's `state_dict()`; the metadata holds the format, its version, what the model is
and the formats of its low-bit layers, as JSON. Integers are packed to their bits. A file is checked in full, names,
shapes and dtypes, before a tensor is read or a model changed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import ConfigError, ModelError, UsageError, WriteError, some
from ..io.atomic import atomic_path
from ..io.file_diagnosis import diagnose_model_file
from ..nn.swap import quant_layers
from .formats import VERSIONS, check_scales, formats_to_json, stored_as_is, version_needed

FORMAT, RESTORER = "quantface-model", "quantface"
READERS = {FORMAT: "load_quantized", RESTORER: "load_restorer"}
RESERVED = ("format", "version", "class", "family", "config", "layers")  # of the metadata; all else is notes
_FLOATS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_STORED = {torch.float32: "F32", torch.float16: "F16", torch.uint8: "U8", torch.int8: "I8"}  # dtypes of low-bit layers


def check_dtype(dtype: torch.dtype | None) -> None:
    """Raise UsageError unless a file's floats can be of it; None = as they are."""
    if dtype is not None and dtype not in _FLOATS:
        raise UsageError(f"a dtype is {', '.join(map(str, _FLOATS))} or None, got {dtype!r:.40}")


def check_device(device: str | torch.device) -> None:
    """Raise UsageError unless tensors can be there."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # the first of a torch that was built without it
        raise UsageError(f"the device {device} cannot be used here ({str(error).splitlines()[0]})") from error


def write_model(
    model: nn.Module,
    path: Path,
    described: Mapping[str, str],
    notes: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model's state atomically, floats of no low-bit layer as `dtype`.

    `described` says what the model is, `notes` what its maker wants to. Raises UsageError for a dtype or notes that no
    file holds, ModelError, WriteError.
    """
    check_dtype(dtype)
    _check_notes(notes or {})
    metadata = {**(notes or {}), **described, "version": version_needed(model)}
    if quant_layers(model):
        metadata["layers"] = formats_to_json(model)
    tensors = _tensors_to_write(model, dtype)
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata)
            _sort_metadata(temporary)
    except SafetensorError as error:  # a full disk, as its writer says it
        raise WriteError(f"{path}: cannot write ({error})") from error


def _check_notes(notes: Mapping[str, str]) -> None:
    if others := [key for key, value in notes.items() if not isinstance(value, str)]:
        raise UsageError(f"notes are texts, not numbers or tables: {some(others)}")
    if others := [key for key in notes if key in RESERVED]:
        raise UsageError(f"these names are the format's own, give the notes others: {some(others)}")


def _tensors_to_write(model: nn.Module, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The model's state on the processor, no two tensors sharing memory. Raises ModelError."""
    fixed, seen, state = stored_as_is(model), set[int](), model.state_dict()
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    if others := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ModelError(f"a file holds tensors alone, not what get_extra_state gives: {some(others)}")
    if others := sorted((parameters | fixed) - set(state)):
        raise ModelError(f"the model's state_dict leaves out or renames some of its own: {some(others)}")
    tensors: dict[str, Tensor] = {}
    for name, t in state.items():
        wanted = t.dtype if dtype is None or name in fixed or not t.is_floating_point() else dtype
        tensor = t.detach().to("cpu", wanted).contiguous()
        memory = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if memory in seen else tensor  # the format has no tensors that share memory
        seen.add(memory)
    if others := [name for name, t in tensors.items() if t.is_floating_point() and t.dtype not in _FLOATS]:
        raise ModelError(f"no file holds {tensors[others[0]].dtype}, give dtype=torch.float16 or alike: {some(others)}")
    # A table of a mask may well hold infinity.
    exact = parameters | {name for name, t in state.items() if bool(torch.isfinite(t).all())}
    if broken := [name for name, t in tensors.items() if name in exact and not torch.isfinite(t).all()]:
        raise ModelError(f"weights are not finite as {dtype or 'they are'}: {some(broken)}")
    return tensors


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


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file; whatever is wrong with it or with what it describes is a ModelError."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: {_why_unreadable(path, error)}") from error
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error


def _why_unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "permission denied"
    return diagnose_model_file(path) or f"damaged, or no safetensors file ({error})"


def read_notes(path: Path) -> dict[str, str]:
    """What a file's maker noted beside the model: licence, settings, reports. Raises ModelError."""
    with opened(path) as file:
        metadata = file.metadata() or {}
    return {key: value for key, value in metadata.items() if key not in RESERVED}


def read_header(path: Path, metadata: dict[str, str] | None, expected: str) -> dict[str, str]:
    """The metadata, checked to be of a format and of this release's version. Raises ModelError."""
    metadata = metadata or {}
    found = metadata.get("format")
    if found != expected:
        if found in READERS:
            raise ModelError(f"{path}: its format is {found!r}: {READERS[found]} reads it")
        raise ModelError(f"{path}: not a QuantFace checkpoint (its metadata names no format {expected!r})")
    found, newest = metadata.get("version", "none"), VERSIONS[-1]
    if found not in VERSIONS:
        raise ModelError(f"{path}: format version {found!r:.20}, this release reads {newest!r}: update QuantFace")
    return metadata


def read_json(path: Path, text: str, what: str) -> Any:
    """A header's JSON. Raises ModelError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its {what} is not JSON ({error})") from error


@contextmanager
def building(path: Path) -> Iterator[None]:
    """Turn whatever a model constructor raises into a ModelError: the header's sizes are not trusted."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, NotImplementedError) as error:
        raise ModelError(f"{path}: cannot build the network it describes ({error})".replace("\n", " ")) from error


def check_layout(path: Path, file: Any, expected: Mapping[str, Tensor], fixed: set[str]) -> None:
    """Raise ModelError unless the file holds exactly the expected names, shapes and dtypes."""
    names = set(file.keys())
    missing, extra = sorted(set(expected) - names), sorted(names - set(expected))
    if missing or extra:
        raise ModelError(f"{path}: tensors missing: {some(missing)}; not expected: {some(extra)}")
    for name, tensor in expected.items():
        found = file.get_slice(name)
        if list(found.get_shape()) != list(tensor.shape):
            raise ModelError(f"{path}: {name} has shape {found.get_shape()}, expected {list(tensor.shape)}")
        if name not in fixed and not tensor.is_floating_point():
            continue  # a table of whole numbers has the dtype that its model gave it
        known = [_STORED[tensor.dtype]] if name in fixed else list(_FLOATS.values())
        if found.get_dtype() not in known:
            raise ModelError(f"{path}: {name} is {found.get_dtype()}, expected {' or '.join(known)}")


def read_tensors(
    path: Path,
    file: Any,
    names: Iterable[str],
    fixed: set[str],
    parameters: Collection[str],
    device: str | torch.device,
    dtype: torch.dtype | None,
) -> dict[str, Tensor]:
    """Tensors of a file whose layout was checked, floats that are not `fixed` as `dtype`.

    Raises ModelError for what is not a number, for infinite parameters, and for scales that cannot be any.
    """
    # Copied: who overwrites a mapped file takes a running model's weights away, and a product over memory that is
    # aligned as a file's is may add in another order.
    tensors = {
        name: (t := file.get_tensor(name)).to(
            device, dtype if t.is_floating_point() and name not in fixed else None, copy=True
        )
        for name in names
    }
    exact = fixed.union(parameters)  # a table of a mask may well hold infinity
    floats = {name: t for name, t in tensors.items() if t.is_floating_point()}
    if broken := [n for n, t in floats.items() if t.isnan().any() or (n in exact and t.isinf().any())]:
        raise ModelError(f"{path}: damaged, not finite: {some(broken)}")
    if broken := check_scales(tensors, fixed & set(tensors)):
        raise ModelError(f"{path}: damaged, scales are zero or negative: {some(broken)}")
    return tensors
