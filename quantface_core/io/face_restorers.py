"""The face restorers that users have: published files of GFPGAN, RestoreFormer and CodeFormer, told by their keys.

Weights alone are read, whatever else a file holds. What a file is is seen without torch and without spandrel, so that
a menu can list it and its licence is said before it loads.
"""

from __future__ import annotations

import json
import logging
import warnings
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..restorer.spandrel import SpandrelConfig, SpandrelRestorer

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
# Keys that an architecture has and no other; GFPGAN's first release has other layers under nearly the same names.
KEYS = {
    "GFPGAN": (b"stylegan_decoder.style_mlp.1.weight", b"toRGB.0.weight", b"conv_body_first.weight"),
    "RestoreFormer": (b"encoder.down.0.block.0.norm1.weight", b"quantize.embedding.weight", b"decoder.conv_out.weight"),
    "CodeFormer": (b"ft_layers.0.self_attn.in_proj_weight", b"position_emb", b"quantize.embedding.weight"),
}
_WRAPPERS = ("params_ema", "params", "state_dict", "model")  # the averaged weights where there are both
_START = 1 << 22  # bytes of a file's start or of its index, in which all keys are
_LARGEST = 100_000_000  # bytes of a safetensors file's header: the format's own limit
_WORDS = 160  # characters of another library's error


def architecture_in(path: Path) -> str | None:
    """The architecture whose published weights a file holds, by its keys; None = none that is known."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return _architecture(path, stat.st_mtime_ns, stat.st_size)


def architecture_of(path: Path) -> str | None:
    """The architecture of a file's model, a published one or one of ours; None = a one-step model, or none at all."""
    if published := architecture_in(path):
        return published
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), _LARGEST)))
        named = json.loads(header["__metadata__"]["config"]).get("architecture")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return named if isinstance(named, str) else None


def has_fidelity(path: Path | None) -> bool:
    """Whether a file's model has a fidelity to choose: CodeFormer, published or of low bits. No weights are read."""
    return path is not None and architecture_of(path) == "CodeFormer"


@lru_cache(maxsize=256)
def _architecture(path: Path, changed: int, size: int) -> str | None:
    index = _index(path)
    return next((name for name, keys in KEYS.items() if all(key in index for key in keys)), None)


def _index(path: Path) -> bytes:
    """The part of a file that names its tensors; empty where it is ours, or of no kind that is known."""
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".safetensors":
                size = int.from_bytes(file.read(8), "little")
                text = file.read(min(size, _START))
                ours = "format" in (json.loads(text).get("__metadata__") or {})
                return b"" if ours and b'"quantface' in text else text
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    name = next((n for n in archive.namelist() if n.endswith("/data.pkl")), "")
                    return archive.open(name).read(_START) if name else b""
            file.seek(0)
            return file.read(_START) if path.suffix.lower() in SUFFIXES else b""  # as torch wrote before 1.6
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, NotImplementedError, RuntimeError):
        return b""


def say_licence(name: str, licence: str) -> None:
    """Say it, where it forbids what people do."""
    if "not for" in licence:
        logging.warning("QuantFace: %s: %s", name, licence)


def read_published(path: Path, architecture: str, device: str | torch.device, dtype: torch.dtype) -> SpandrelRestorer:
    """A restorer of a published file, in evaluation mode and without gradients.

    Raises ModelError when the file is damaged or of a variant that spandrel does not know, or spandrel is not there.
    """
    import torch

    from ..restorer.spandrel import SpandrelRestorer
    from ..restorer.spandrel.architectures import network
    from ..restorer.spandrel.config import LICENCES

    say_licence(path.name, LICENCES[architecture])
    tensors = _tensors(path)
    config = _described(path, architecture, tensors)
    with torch.device("meta"):
        published = network(config)
    moved = {name: t.to(device, dtype, copy=True) for name, t in tensors.items()}  # copied: the file is mapped
    tensors.clear()
    if broken := [name for name, t in moved.items() if not torch.isfinite(t).all()]:
        raise ModelError(f"{path}: damaged, {broken[0]} is not finite")
    published.load_state_dict(moved, assign=True)
    restorer = SpandrelRestorer(config, published).requires_grad_(False).eval()
    return restorer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _described(path: Path, architecture: str, tensors: Mapping[str, Tensor]) -> SpandrelConfig:
    import torch

    from ..restorer.spandrel.architectures import infer_config

    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*non-meta parameter.*")  # only shapes are asked for
            return infer_config(architecture, tensors)
    except ModelError:
        raise
    except Exception as error:  # spandrel raises whatever its classes do
        reason = " ".join(str(error).split())[:_WORDS]
        raise ModelError(f"{path}: no {architecture} that spandrel knows, or damaged ({reason})") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    """The published tensors by name, without what they are wrapped in. Raises ModelError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from .tensor_files import read_pickle

    try:
        tensors = load_file(path) if path.suffix.lower() == ".safetensors" else read_pickle(path, _WRAPPERS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: damaged, or still downloading ({' '.join(str(error).split())[:_WORDS]})") from error
    prefix = next((p for p in ("module.", "netG.") if all(name.startswith(p) for name in tensors)), "")
    return {name.removeprefix(prefix): t for name, t in tensors.items() if t.is_floating_point()}
