"""Other people's weight files, tensor by tensor: safetensors, and pickles of tensors alone.

What a file is shows in its first bytes, not in its name. Tensors stay on the disk until they are read.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ModelError


class TensorFile:
    """Names, shapes and, one at a time, tensors of an open file."""

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]], read: Any, metadata: Mapping[str, str]):
        self.path, self.shapes, self._read, self.metadata = path, shapes, read, metadata

    def read(self, name: str) -> Tensor:
        """One tensor as float32 on the CPU. Raises ModelError when it is not finite."""
        tensor: Tensor = self._read(name).to(torch.float32)
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{self.path}: damaged, {name} is not finite")
        return tensor


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a safetensors file, or a pickle with `weights_only`. Raises ModelError when it is neither."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:9] == b"{":
            with safe_open(path, framework="pt") as opened:
                names = list(opened.keys())
                shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in names}
                yield TensorFile(path, shapes, opened.get_tensor, opened.metadata() or {})
        else:
            tensors = _unpickled(path)
            yield TensorFile(path, {n: tuple(t.shape) for n, t in tensors.items()}, tensors.__getitem__, {})
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: damaged, or no file of tensors ({_first_line(error)})") from error


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        loaded = _load(path)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{path}: damaged, or more than tensors in it ({_first_line(error)})") from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{path}: a table of tensors expected, found {type(loaded).__name__}")
    return {str(name): tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor)}


def _load(path: Path) -> Any:
    try:
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, SafetensorError):
        # A pickle older than torch 1.6 cannot stay on the disk; one misnamed is taken for its suffix.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def write_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], tensors: Iterable[Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a float32 safetensors file from tensors that come one at a time, in the order of `shapes`.

    The library's own writer wants all of them in memory at once.
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
