"""Other people's weight files, tensor by tensor: safetensors, and pickles of tensors alone.

What a file is shows in its first bytes, not in its name. Tensors stay on the disk until they are read.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ModelError

_WORDS = 160  # characters of another library's error


class TensorFile:
    """Names, shapes and, one at a time, tensors of an open file."""

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]], read: Any, metadata: Mapping[str, str]):
        self.path, self.shapes, self._read, self.metadata = path, shapes, read, metadata

    def read(self, name: str) -> Tensor:
        """One tensor as float32 on the CPU. Raises ModelError when it cannot be read or is not finite."""
        with _named(self.path):
            tensor: Tensor = self._read(name).to(torch.float32)
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{self.path}: damaged, {name} is not finite")
        return tensor


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a safetensors file, or a pickle with `weights_only`. Raises ModelError when it is neither."""
    with ExitStack() as stack:
        with _named(path):
            with path.open("rb") as file:
                start = file.read(9)
            if start[8:9] == b"{":
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
def _named(path: Path) -> Iterator[None]:
    """Name the file in errors of reading it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: damaged, or no file of tensors ({_first_line(error)})") from error


def read_pickle(path: Path, wrappers: Iterable[str] = ("state_dict",)) -> dict[str, Tensor]:
    """A pickle's tensors by name, out of the first of the `wrappers` that it has. Raises ModelError.

    Weights alone are read, and stay on the disk unless the file is older than torch 1.6.
    """
    try:
        with path.open("rb") as file:
            mapped = file.read(4) == b"PK\3\4"
            file.seek(0)
            # A name, which alone torch maps, unless it would be taken for its suffix; and by keywords, for A1111's own
            # torch.load has another order.
            named = path.suffix.lower() != ".safetensors"
            source: Any = str(path) if named else file
            loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped and named)
    except pickle.UnpicklingError as error:
        reason = "refused, it holds more than weights (such a file can run code), or is damaged"
        raise ModelError(f"{path}: {reason}") from error
    except Exception as error:  # a damaged pickle raises whatever its instructions come to
        raise ModelError(f"{path}: damaged, or still downloading ({_first_line(error)})") from error
    if not isinstance(loaded, Mapping):  # A1111's torch.load gives None for what it takes for unsafe
        raise ModelError(f"{path}: refused, it is not plain weights, or damaged")
    state = next((loaded[name] for name in wrappers if isinstance(loaded.get(name), Mapping)), loaded)
    return {name: tensor for name, tensor in state.items() if isinstance(name, str) and isinstance(tensor, Tensor)}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_WORDS]


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
