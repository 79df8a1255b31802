"""A quantized model in one safetensors file that describes itself.

Tensors keep the names of the model's `state_dict()`; the metadata holds the format, its version, the class, for
diffusers' models the configuration, and the formats of the low-bit layers, as JSON. Integers are packed to their bits.
A file is checked in full, names, shapes and dtypes, before a tensor is read or a model changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import ConfigError, ModelError, UsageError, WriteError
from ..io.atomic import atomic_path
from ..io.file_diagnosis import diagnose_model_file
from ..kernels.dispatch import choose_backend
from ..nn.swap import prefer, quant_layers
from ..runtime.compiled import original
from .formats import (
    VERSIONS,
    add_low_bit_layers,
    check_scales,
    formats_from_json,
    formats_to_json,
    low_bit_state,
    stored_as_is,
    version_needed,
)

FORMAT, RESTORER = "quantface-model", "quantface"
READERS = {FORMAT: "load_quantized", RESTORER: "load_restorer"}
RESERVED = ("format", "version", "class", "family", "config", "layers")  # of the metadata; all else is notes
_DIFFUSERS = "diffusers."
_FLOATS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_STORED = {torch.float32: "F32", torch.float16: "F16", torch.uint8: "U8", torch.int8: "I8"}  # dtypes of low-bit layers
_SHOWN = 3  # names in an error message
_MOST_LAYERS, _LARGEST = 512, 10_000_000  # of a configuration's whole numbers: it is not trusted


def save_quantized(
    model: nn.Module, path: str | Path, dtype: torch.dtype | None = None, notes: Mapping[str, str] | None = None
) -> None:
    """Write a quantized model atomically: low-bit layers as they are, other floating-point weights as `dtype`.

    None keeps every dtype: loaded, the model computes the same bits. `notes` (licence, settings, ...) go into the
    metadata. Diffusers' models are loaded from the file alone, unless they hold more than their configuration says, as
    adapters. Raises UsageError when no layer is quantized, `dtype` is no float's or a note no text, ModelError when a
    weight does not fit `dtype` or the state holds what is no tensor, WriteError.
    """
    model = original(model)
    if not quant_layers(model):
        raise UsageError(f"no layer of the {type(model).__name__} is quantized: call quantize first")
    described = {"format": FORMAT, "class": f"{type(model).__module__}.{type(model).__qualname__}"}
    if _diffusers_class(type(model).__name__) is type(model):
        config = {key: value for key, value in dict(model.config).items() if not key.startswith("_")}  # type: ignore[arg-type]
        if _is_as_configured(model, config):
            described |= {"class": f"{_DIFFUSERS}{type(model).__name__}", "config": json.dumps(config)}
    write_model(model, Path(path), {**(notes or {}), **described}, dtype)


def load_quantized(
    path: str | Path,
    model: nn.Module | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> nn.Module:
    """Read a quantized model, in evaluation mode and without gradients; its other weights as `dtype`, None = as stored.

    A file of a diffusers model builds it. Any other needs `model`, one of the same architecture before it was
    quantized, which is filled in place, whatever its weights. `backend` names who computes its low-bit layers, one of
    ours or one that is registered; None = the fastest. Raises ModelError when the file is missing, damaged, or of
    another architecture; UsageError when `model` is quantized already, `dtype` is no float's, `device` is not here, or
    `backend` cannot run on it; `model` then stays as it was.
    """
    path, given = Path(path), model
    _refuse_dtype(dtype)
    _refuse_device(device)
    chosen = choose_backend(torch.device(device), backend) if backend else None
    if model is not None:
        model = original(model)
        if quant_layers(model):
            raise UsageError("the model to fill is quantized already: give one in full precision")
    with opened(path) as file:
        metadata = read_header(path, file.metadata(), FORMAT)
        if model is None:
            model = _built(path, metadata)
        formats = formats_from_json(metadata.get("layers"), model)
        expected, fixed = low_bit_state(model, formats)
        check_layout(path, file, expected, fixed)
        tensors = {name: _moved(file.get_tensor(name), device, None if name in fixed else dtype) for name in expected}
    broken = [name for name, t in tensors.items() if t.is_floating_point() and bool(torch.isnan(t).any())]
    if broken:
        raise ModelError(f"{path}: damaged, not a number: {some(broken)}")
    refuse_scales(path, tensors, fixed)
    add_low_bit_layers(model, formats)
    model.load_state_dict(tensors, assign=True)
    if chosen:
        prefer(model, chosen)
    return (model if given is None else given).to(device).requires_grad_(False).eval()


def _refuse_dtype(dtype: torch.dtype | None) -> None:
    if dtype is not None and dtype not in _FLOATS:
        raise UsageError(f"a dtype is {', '.join(map(str, _FLOATS))} or None, got {dtype!r:.40}")


def _refuse_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # the first of a torch that was built without it
        raise UsageError(f"the device {device} cannot be used here ({str(error).splitlines()[0]})") from error


def _moved(tensor: Tensor, device: str | torch.device, dtype: torch.dtype | None) -> Tensor:
    # Copied: a product over memory that is aligned as a file's is may add in another order.
    return tensor.to(device, dtype if tensor.is_floating_point() else None, copy=True)


def _diffusers_class(name: str) -> Any:
    """A model class of diffusers by name; None = there is none."""
    found = getattr(diffusers, name, None)
    return found if isinstance(found, type) and issubclass(found, diffusers.ModelMixin) else None


def _is_as_configured(model: Any, config: dict[str, Any]) -> bool:
    """Whether a quantized diffusers model's class builds what holds the same tensors: adapters add some."""
    try:
        with building(Path()), torch.device("meta"):
            built = type(model).from_config(config)
        expected, _ = low_bit_state(built, formats_from_json(formats_to_json(model), built))
    except (ConfigError, ModelError):
        return False
    return {name: t.shape for name, t in expected.items()} == {name: t.shape for name, t in model.state_dict().items()}


def _built(path: Path, metadata: Mapping[str, str]) -> nn.Module:
    """The architecture of a diffusers model, without memory for its weights. Raises ModelError."""
    name = metadata.get("class", "")
    found = _diffusers_class(name.removeprefix(_DIFFUSERS)) if name.startswith(_DIFFUSERS) else None
    if found is None or "config" not in metadata:
        raise ModelError(f"{path} holds a {name:.80}, no model that diffusers builds: load_quantized(path, model=...)")
    config = read_json(path, metadata["config"], "configuration")
    _check_config(path, config)
    with building(path), torch.device("meta"):
        model: nn.Module = found.from_config(config)
    if _computes_at_start(model):
        # Tables that no file holds are made by the constructor, so it runs in earnest: once it is known to succeed.
        with building(path), torch.random.fork_rng(devices=[]):
            model = found.from_config(config)
    return model


def _computes_at_start(model: nn.Module) -> bool:
    """Whether a model without memory lacks more than what its state holds."""
    state = set(model.state_dict())
    if any(name not in state for name, _ in model.named_buffers()):
        return True
    return any(isinstance(value, Tensor) for module in model.modules() for value in vars(module).values())


def _check_config(path: Path, config: Any) -> None:
    """Refuse a configuration that would build for ever: the file's own words are not trusted."""
    if not isinstance(config, dict):
        raise ModelError(f"{path}: its configuration is no table")
    for key, value in config.items():
        values = value if isinstance(value, list) else [value]
        most = _MOST_LAYERS if "layers" in key else _LARGEST
        if len(values) > _MOST_LAYERS or any(isinstance(v, int | float) and abs(v) > most for v in values):
            raise ModelError(f"{path}: its configuration's {key:.80} is out of bounds")


def write_model(model: nn.Module, path: Path, metadata: Mapping[str, str], dtype: torch.dtype | None) -> None:
    """Write a model's state atomically, floats of no low-bit layer as `dtype`.

    Raises UsageError for a dtype or metadata that no file holds, ModelError, WriteError.
    """
    _refuse_dtype(dtype)
    if others := [key for key, value in metadata.items() if not isinstance(value, str)]:
        raise UsageError(f"notes are texts, not numbers or tables: {some(others)}")
    fixed, seen, state = stored_as_is(model), set[int](), model.state_dict()
    if others := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ModelError(f"a file holds tensors alone, not what get_extra_state gives: {some(others)}")
    tensors: dict[str, Tensor] = {}
    for name, t in state.items():
        wanted = t.dtype if dtype is None or name in fixed or not t.is_floating_point() else dtype
        tensor = t.detach().to("cpu", wanted).contiguous()
        if tensor.data_ptr() in seen:
            tensor = tensor.clone()  # the format has no tensors that share memory
        seen.add(tensor.data_ptr())
        tensors[name] = tensor
    if others := [name for name, t in tensors.items() if t.is_floating_point() and t.dtype not in _FLOATS]:
        raise ModelError(f"no file holds {tensors[others[0]].dtype}, give dtype=torch.float16 or alike: {some(others)}")
    parameters = {name for name, _ in model.named_parameters()}
    broken = [name for name, t in tensors.items() if not torch.isfinite(t).all()]
    # A table of a mask may well hold infinity.
    broken = [name for name in broken if name in parameters or bool(torch.isfinite(state[name]).all())]
    if broken:
        raise ModelError(f"weights are not finite as {dtype or 'they are'}: {some(broken)}")
    low = {"version": version_needed(model)}
    if quant_layers(model):
        low["layers"] = formats_to_json(model)
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, {**metadata, **low})
            _sort_metadata(temporary)
    except SafetensorError as error:  # a full disk, as its writer says it
        raise WriteError(f"{path}: cannot write ({error})") from error


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


def refuse_scales(path: Path, tensors: dict[str, Tensor], fixed: set[str]) -> None:
    """Raise ModelError when a scale cannot be one."""
    wrong = check_scales(tensors, fixed & set(tensors))
    if wrong:
        raise ModelError(f"{path}: damaged, scales are zero or negative: {some(wrong)}")


def some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:_SHOWN]) or "none"
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
