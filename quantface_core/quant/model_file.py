"""Write, open and validate self-describing models, each one safetensors file.

Tensors keep the names of the model's `state_dict()`; the metadata holds the format, its version, what the model is and
the formats of its low-bit layers, as JSON. Integers are bit-packed. All names, shapes and dtypes in a file are checked
before a tensor is read or a model changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import ConfigError, ModelError, UsageError, WriteError, first_few
from ..io.atomic import atomic_path
from ..io.file_diagnosis import diagnose_model_file
from ..nn.swap import quant_layers
from .formats import check_values, check_version, formats_to_json, stored_as_is, version_needed

FORMAT, RESTORER = "quantface-model", "quantface"
READERS = {FORMAT: "load_quantized", RESTORER: "load_restorer"}
RESERVED = ("format", "version", "class", "family", "config", "layers", "dtypes")  # metadata keys; all others are notes
_OF_VALUES = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)  # what a wrong one may raise
_FLOATS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_STORED = {torch.float32: "F32", torch.float16: "F16", torch.uint8: "U8", torch.int8: "I8"}  # dtypes of low-bit layers


def check_dtype(dtype: torch.dtype | None) -> None:
    """Raise UsageError unless a file's floating-point tensors can have this dtype; None = unchanged."""
    if dtype is not None and dtype not in _FLOATS:
        raise UsageError(f"a dtype is {', '.join(map(str, _FLOATS))} or None, got {dtype!r:.40}")


def write_model(
    model: nn.Module,
    path: Path,
    described: Mapping[str, str],
    notes: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model's state atomically; floating-point tensors outside low-bit layers as `dtype`, None = unchanged.

    `described` says what the model is; `notes` are its maker's. Raises UsageError for a dtype or notes that a file
    cannot hold, ModelError for a state that it cannot, WriteError.
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
    except SafetensorError as error:  # how safetensors reports a full disk
        raise WriteError(f"{path}: cannot write ({error})") from error


def _check_notes(notes: Mapping[str, str]) -> None:
    if others := [key for key, value in notes.items() if not isinstance(value, str)]:
        raise UsageError(f"notes must be text, not numbers or tables: {first_few(others)}")
    if others := [key for key in notes if key in RESERVED]:
        raise UsageError(f"these names are reserved by the format, rename the notes: {first_few(others)}")


def _tensors_to_write(model: nn.Module, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The model's state on the CPU, no two tensors sharing memory. Raises ModelError."""
    fixed, seen, state = stored_as_is(model), set[int](), model.state_dict()
    kept = {id(value) for value in model.state_dict(keep_vars=True).values()}
    if others := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ModelError(f"a file can only hold tensors, not what get_extra_state returns: {first_few(others)}")
    if others := [name for name, value in state.items() if value.is_meta]:
        raise ModelError(f"weights are on the meta device, as offloading leaves them: save first: {first_few(others)}")
    if others := [name for name, value in state.items() if hasattr(value, "__tensor_flatten__")]:
        kind = type(state[others[0]]).__name__
        raise ModelError(f"a file cannot hold {kind}, of another quantizer or distributed: {first_few(others)}")
    own = {name for name, p in model.named_parameters() if id(p) not in kept and p.numel()}  # whatever wrappers call it
    others = sorted((own | fixed) - set(state))
    if others:
        raise ModelError(f"the model's state_dict omits or renames some of its tensors: {first_few(others)}")
    tensors: dict[str, Tensor] = {}
    for name, t in state.items():
        wanted = t.dtype if dtype is None or name in fixed or not t.is_floating_point() else dtype
        tensor = t.detach().to("cpu", wanted).contiguous()
        memory = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if memory in seen else tensor  # safetensors allows no shared memory
        seen.add(memory)
    if others := [name for name, t in tensors.items() if t.is_floating_point() and t.dtype not in _FLOATS]:
        held = tensors[others[0]].dtype
        raise ModelError(f"a file cannot hold {held}, give a dtype such as float16: {first_few(others)}")
    # Buffers, such as attention masks, may well hold infinity.
    exact = parameter_names(model)
    exact |= {name for name, t in state.items() if name not in exact and torch.isfinite(t).all()}
    if broken := [name for name, t in tensors.items() if name in exact and not torch.isfinite(t).all()]:
        raise ModelError(f"weights are not finite as {dtype or 'they are'}: {first_few(broken)}")
    return tensors


def parameter_names(model: nn.Module) -> set[str]:
    """The names of parameters in the model's state: those of all aliases of a tied one, and as wrappers rename them."""
    state, own = model.state_dict(keep_vars=True), dict(model.named_parameters(remove_duplicate=False))
    return {name for name, value in state.items() if name in own or isinstance(value, nn.Parameter)}


def _sort_metadata(path: Path) -> None:
    """Sort the header's metadata: safetensors' order, and with it a file's checksum, changes from run to run."""
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
    """Open a safetensors file; anything wrong with it or with what it describes raises ModelError."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:  # safetensors' word for any file that cannot be opened: on Windows a folder too
        if not path.exists():
            raise ModelError(f"{path}: no such model file") from None
        raise ModelError(f"{path}: {diagnose_model_file(path) or 'cannot be opened'}") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: {_why_unreadable(path, error)}") from error
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error


def _why_unreadable(path: Path, error: Exception) -> str:
    known = "permission denied" if isinstance(error, PermissionError) else None
    return diagnose_model_file(path) or known or f"damaged, or not a safetensors file ({error})"


def read_notes(path: Path) -> dict[str, str]:
    """The notes that a file's maker added to the model: licence, settings, reports. Raises ModelError."""
    with opened(path) as file:
        metadata = file.metadata() or {}
    return {key: value for key, value in metadata.items() if key not in RESERVED}


def read_header(path: Path, metadata: dict[str, str] | None, expected: str) -> dict[str, str]:
    """The metadata, checked for the expected format and a version that this release reads. Raises ModelError."""
    metadata = metadata or {}
    found = metadata.get("format")
    if found != expected:
        if found in READERS:
            raise ModelError(f"{path}: its format is {found!r}: {READERS[found]} reads it")
        raise ModelError(f"{path}: not a QuantFace checkpoint (its metadata names no format {expected!r})")
    check_version(metadata.get("version", "none"), path)
    return metadata


def read_json(path: Path, text: str, what: str) -> Any:
    """Parse JSON from a header; `what` names it in the message. Raises ModelError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its {what} is not JSON ({error})") from error


@contextmanager
def building(path: Path) -> Iterator[None]:
    """Within the block, turn whatever a model's constructor raises into a ModelError: the header is not trusted."""
    try:
        yield
    except (*_OF_VALUES, AttributeError, ImportError, AssertionError) as error:
        raise ModelError(f"{path}: cannot build the network it describes ({error})".replace("\n", " ")) from error


def check_layout(path: Path, file: Any, expected: Mapping[str, Tensor], fixed: set[str]) -> None:
    """Raise ModelError unless the file holds exactly the expected names, shapes and dtypes."""
    names = set(file.keys())
    missing, extra = sorted(set(expected) - names), sorted(names - set(expected))
    if missing or extra:
        raise ModelError(f"{path}: tensors missing: {first_few(missing)}; not expected: {first_few(extra)}")
    for name, tensor in expected.items():
        found = file.get_slice(name)
        if list(found.get_shape()) != list(tensor.shape):
            raise ModelError(f"{path}: {name} has shape {found.get_shape()}, expected {list(tensor.shape)}")
        if name not in fixed and not tensor.is_floating_point():
            continue  # an integer buffer keeps the dtype that its model gave it
        known = [_STORED[tensor.dtype]] if name in fixed else list(_FLOATS.values())
        if found.get_dtype() not in known:
            raise ModelError(f"{path}: {name} is {found.get_dtype()}, expected {' or '.join(known)}")


def read_tensors(
    path: Path,
    file: Any,
    names: Iterable[str],
    fixed: set[str],
    model: nn.Module,
    device: str | torch.device,
    dtype: torch.dtype | None,
) -> dict[str, Tensor]:
    """Read a model's tensors from a file whose layout was checked; floating-point ones not `fixed` as `dtype`.

    Raises ModelError for NaN, for infinite parameters, and for scales that are zero or negative.
    """
    # Copied: overwriting a memory-mapped file would change a running model's weights, and the alignment of memory in
    # a file may change the order in which a product adds. Safetensors before 0.6.1 reads to torch's default device.
    with torch.device("cpu"):
        tensors = {
            name: (t := file.get_tensor(name)).to(
                device, dtype if t.is_floating_point() and name not in fixed else None, copy=True
            )
            for name in names
        }
    exact = fixed | parameter_names(model)  # buffers, such as attention masks, may well hold infinity
    check_values(tensors, fixed, exact, path)
    return tensors
