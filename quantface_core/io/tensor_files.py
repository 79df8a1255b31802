"""Third-party weight files, tensor by tensor: safetensors, and pickles that hold only tensors.

A file's format is recognised by its first bytes, not its name. Tensors stay on disk until they are read.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..errors import ModelError, one_line
from .file_diagnosis import diagnose_download, is_safetensors

_WRAPPERS = ("params_ema", "params", "state_dict", "model")  # in this order


class TensorFile:
    """An open file: its tensors' names and shapes, and the tensors themselves, one at a time."""

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]], read: Any, metadata: Mapping[str, str]):
        self.path, self.shapes, self._read, self.metadata = path, shapes, read, metadata

    def read(self, name: str) -> Tensor:
        """Return one tensor as float32 on the CPU. Raises ModelError when it cannot be read or is not finite."""
        with read_errors(self.path), torch.device("cpu"):  # safetensors before 0.6.1 follows torch's default device
            tensor: Tensor = self._read(name).to(torch.float32)
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{self.path}: damaged, {name} is not finite")
        return tensor


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a safetensors file, or a pickle with `weights_only`. Raises ModelError when it is neither."""
    with ExitStack() as stack:
        with read_errors(path):
            if is_safetensors(path):
                opened = stack.enter_context(safe_open(path, framework="pt"))
                names = list(opened.keys())
                shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in names}
                found = TensorFile(path, shapes, opened.get_tensor, opened.metadata() or {})
            else:
                tensors = read_pickle(path)
                shapes = {name: tuple(t.shape) for name, t in tensors.items()}
                found = TensorFile(path, shapes, tensors.__getitem__, {})
        yield found


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading a file inside the context into a ModelError that names it."""
    try:
        yield
    except SafetensorError as error:
        raise ModelError(f"{path}: {_damage(path, error)}") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot read ({error.strerror or error})") from error


def _damage(path: Path, error: Exception) -> str:
    return diagnose_download(path) or f"damaged, or still downloading ({one_line(error)})"


def read_pickle(path: Path, wrappers: Iterable[str] = ("state_dict",)) -> dict[str, Tensor]:
    """Return a pickle's tensors by name, from the first of the `wrappers` keys that it has. Raises ModelError.

    Only weights are loaded (`weights_only`); they are memory-mapped unless the file predates torch 1.6's zip format.
    """
    with read_errors(path), path.open("rb") as file:
        loaded = _unpickled(path, file)
    if not isinstance(loaded, Mapping):  # A1111's torch.load returns None for what it considers unsafe
        raise ModelError(f"{path}: refused, it is not plain weights, or damaged")
    state = next((loaded[name] for name in wrappers if isinstance(loaded.get(name), Mapping)), loaded)
    return {name: tensor for name, tensor in state.items() if isinstance(name, str) and isinstance(tensor, Tensor)}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return a network's tensors by name from a file as its authors publish it. Raises ModelError.

    The averaged weights of a training, where there are both.
    """
    with read_errors(path), torch.device("cpu"):  # safetensors before 0.6.1 follows torch's default device
        return load_file(path) if is_safetensors(path) else read_pickle(path, _WRAPPERS)


def _unpickled(path: Path, file: BinaryIO) -> Any:
    mapped = file.read(4) == b"PK\3\4"
    file.seek(0)
    # torch maps a file only by its path, but would judge one ending in .safetensors by that suffix. Keywords, because
    # A1111's own torch.load has another order of parameters.
    named = path.suffix.lower() != ".safetensors"
    source: Any = str(path) if named else file
    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped and named)
    except pickle.UnpicklingError as error:
        unsafe = "refused, it holds more than weights (such a file can run code), or is damaged"
        raise ModelError(f"{path}: {diagnose_download(path) or unsafe}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ModelError(f"{path}: {_damage(path, error)}") from error


def write_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], tensors: Iterable[Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a float32 safetensors file from tensors that come one at a time, in the order of `shapes`.

    The library's own writer needs all of them in memory at once. Raises OSError.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name, shape in shapes.items():
        size = 4 * torch.Size(shape).numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            file.write(tensor.to(torch.float32).contiguous().numpy().data)
