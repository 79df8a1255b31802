"""Published files of GFPGAN, RestoreFormer and CodeFormer, which users may already have, recognised by their keys.

Only weights are read, whatever else a file holds. Recognition needs neither torch nor spandrel, so that a menu can list
a file, and its licence is reported before it loads.
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

from ..errors import ModelError, one_line
from .file_diagnosis import is_safetensors
from .file_identity import file_version

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..restorer.spandrel import SpandrelConfig, SpandrelRestorer

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
# Keys that only one architecture has; GFPGAN's first release has other layers under nearly the same names.
KEYS = {
    "GFPGAN": (b"stylegan_decoder.style_mlp.1.weight", b"toRGB.0.weight", b"conv_body_first.weight"),
    "RestoreFormer": (b"encoder.down.0.block.0.norm1.weight", b"quantize.embedding.weight", b"decoder.conv_out.weight"),
    "CodeFormer": (b"ft_layers.0.self_attn.in_proj_weight", b"position_emb", b"quantize.embedding.weight"),
}
# Of RestoreFormer++: attention at a second resolution, which spandrel's RestoreFormer does not have.
_PLUS_PLUS = b"decoder.up.4.attn.0.norm1.weight"
_PREFIXES = ("module.", "netG.", "vqvae.")  # of all weights, as training saved them; RestoreFormer's authors the last
_START = 1 << 22  # bytes of a file's start or of its index that hold all keys
_LARGEST = 100_000_000  # bytes of a safetensors file's header: the format's own limit


def architecture_in(path: Path) -> str | None:
    """The architecture whose published weights a file holds, by its keys; None when it is none of these."""
    version = _version(path)
    return None if version is None else _published(path, version)


def architecture_of(path: Path) -> str | None:
    """The architecture of a published file or of a QuantFace file; None for a one-step model, or no model at all."""
    version = _version(path)
    return None if version is None else _published(path, version) or _stated(path, version)


def has_fidelity(path: Path | None) -> bool:
    """Whether a file's model has a fidelity setting: CodeFormer, published or low-bit. No weights are read."""
    return path is not None and architecture_of(path) == "CodeFormer"


def _version(path: Path) -> tuple[int, ...] | None:
    """The version with which what a file holds is cached, as hosts ask again for every menu; None without the file."""
    try:
        return file_version(path)
    except OSError:
        return None


@lru_cache(maxsize=256)
def _published(path: Path, _: tuple[int, ...]) -> str | None:
    index = _index(path)
    if _PLUS_PLUS in index:
        return None
    return next((name for name, keys in KEYS.items() if all(key in index for key in keys)), None)


@lru_cache(maxsize=256)
def _stated(path: Path, _: tuple[int, ...]) -> str | None:
    """The architecture that the configuration in a QuantFace file names."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), _LARGEST)))
        named = json.loads(header["__metadata__"]["config"]).get("architecture")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return named if isinstance(named, str) else None


def _index(path: Path) -> bytes:
    """The part of a file that names its tensors; empty for a QuantFace file, or one of no known kind."""
    try:
        with path.open("rb") as file:
            if is_safetensors(path):
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


def warn_of_licence(name: str, licence: str) -> None:
    """Log a licence that restricts use."""
    if "not for" in licence:
        logging.warning("QuantFace: %s: %s", name, licence)


def read_published(path: Path, architecture: str, device: str | torch.device, dtype: torch.dtype) -> SpandrelRestorer:
    """Return the restorer of a published file on `device` as `dtype`, in evaluation mode and without gradients.

    Raises ModelError when the file is damaged or a variant that spandrel does not know, or spandrel is not installed.
    """
    import torch

    from ..restorer.spandrel import SpandrelRestorer
    from ..restorer.spandrel.architectures import network
    from ..restorer.spandrel.config import LICENCES

    warn_of_licence(path.name, LICENCES[architecture])
    tensors = _tensors(path, architecture)
    config = _described(path, architecture, tensors)
    with torch.device("meta"):
        published = network(config)
    moved = {name: t.to(device, dtype, copy=True) for name, t in tensors.items()}  # copied: the file is memory-mapped
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
            warnings.filterwarnings("ignore", message=".*non-meta parameter.*")  # only shapes are needed
            return infer_config(architecture, tensors)
    except ModelError:
        raise
    except Exception as error:  # spandrel's classes may raise anything
        raise ModelError(f"{path}: not a {architecture} that spandrel knows, or damaged ({one_line(error)})") from error


def _tensors(path: Path, architecture: str) -> dict[str, Tensor]:
    """The published tensors by name, unwrapped, without what is beside them in a training's file. Raises ModelError."""
    from .tensor_files import read_weights

    tensors = read_weights(path)
    key = KEYS[architecture][0].decode()
    prefix = next((p for p in _PREFIXES if f"{p}{key}" in tensors), "")
    weights = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    return {name: t for name, t in weights.items() if t.is_floating_point()}
