"""Convert OSDFace's files as its authors publish them: five files in, one full-precision restorer out.

Stable Diffusion 2.1's UNet and autoencoder come from a diffusers folder or from the original code's single-file
checkpoint; the embedder, its projection and the UNet's LoRA as OSDFace publishes them (docs/method.md, section 1).
All keys are accounted for before any tensor is read; tensors are then read, merged and written one at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError, first_few
from ..quant.formats import VERSIONS
from ..quant.model_file import RESTORER
from ..restorer import OSDFACE, OneStepRestorer, RestorerConfig
from .atomic import atomic_path
from .catalogue import PARTS
from .lora import find_lora_pairs, merge_lora
from .tensor_files import TensorFile, open_tensors, write_tensors

_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# In the published embedder, but never used by its code: the second norm of each attention block.
_SECOND_NORM = re.compile(r"encoder\.(down\.\d+\.attn\.\d+|mid\.attn_1)\.norm2\.(weight|bias)")
# The other half of its autoencoder, used only in training.
_DECODER = ("decoder.", "post_quant_conv.")

# Prefix of the autoencoder's names in the original code's single-file checkpoint.
_FIRST_STAGE = "first_stage_model."


class _Name(str):
    """A key standing in for its tensor: given names for tensors, diffusers' converters reveal how they rename."""

    __slots__ = ()
    shape, ndim = (), 0


def convert(
    files: Mapping[str, Path],
    target: Path,
    notes: Mapping[str, str] | None = None,
    config: RestorerConfig | None = None,
) -> None:
    """Build the restorer from `files` (by part, see PARTS; unet and vae may be one file), written to `target` in
    float32.

    Raises ModelError naming missing, extra or misshapen tensors, and WriteError; then nothing is written.
    """
    config = config or OSDFACE
    with torch.device("meta"):
        expected = {name: tuple(t.shape) for name, t in OneStepRestorer(config).state_dict().items()}
    with ExitStack() as stack:
        opened = {part: stack.enter_context(open_tensors(files[part])) for part in PARTS}
        sources: dict[str, tuple[TensorFile, str]] = {}
        for part, rename in _renamings(config).items():
            for theirs, ours in rename(opened[part].shapes).items():
                sources[ours] = opened[part], theirs
        _check(sources, expected, files)
        pairs, lora = find_lora_pairs(opened["lora"]), opened["lora"]
        strays = sorted(layer for layer in pairs if f"{layer}.weight" not in expected)
        if strays:
            raise ModelError(f"{lora.path}: the UNet has no {first_few(strays)}")

        def tensors() -> Iterator[Tensor]:
            for name, shape in expected.items():
                file, theirs = sources[name]
                tensor = file.read(theirs).view(shape)
                pair = pairs.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
                yield merge_lora(tensor, pair, lora) if pair else tensor

        metadata = {**(notes or {}), "format": RESTORER, "version": VERSIONS[0], "config": json.dumps(config.to_dict())}
        with atomic_path(target) as temporary:
            write_tensors(temporary, expected, tensors(), metadata)


def holds_autoencoder(path: Path) -> bool:
    """Whether a UNet's file is the original single-file checkpoint. Raises ModelError when it holds no tensors."""
    with open_tensors(path) as file:
        return any(name.startswith(_FIRST_STAGE) for name in file.shapes)


def _renamings(config: RestorerConfig) -> dict[str, Callable[[Iterable[str]], dict[str, str]]]:
    """For each part, the function that maps its file's names to ours; names it leaves out are dropped on purpose."""
    return {
        "unet": lambda names: _prefixed("unet.", _unet(list(names), config.unet)),
        "vae": lambda names: _prefixed("vae.", _vae(list(names), config.vae)),
        "embedder": lambda names: _prefixed("embedder.", _embedder(names)),
        "projection": lambda names: _prefixed("embedder.projection.", {name: name for name in names}),
    }


def _prefixed(prefix: str, names: Mapping[str, str]) -> dict[str, str]:
    return {theirs: prefix + ours for theirs, ours in names.items()}


def _unet(names: list[str], config: Mapping[str, Any]) -> dict[str, str]:
    from diffusers.loaders.single_file_utils import LDM_UNET_KEY, convert_ldm_unet_checkpoint

    own = [name for name in names if name.startswith(LDM_UNET_KEY)]
    if not own:
        return {name: name for name in names}
    return _revealed(own, LDM_UNET_KEY, convert_ldm_unet_checkpoint({name: _Name(name) for name in own}, config))


def _vae(names: list[str], config: Mapping[str, Any]) -> dict[str, str]:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    own = [name for name in names if name.startswith(_FIRST_STAGE)]
    if own:
        return _revealed(own, _FIRST_STAGE, convert_ldm_vae_checkpoint({name: _Name(name) for name in own}, config))
    return {name: re.sub(r"(?<=\.)(query|key|value|proj_attn)(?=\.)", _modern, name) for name in names}


def _modern(match: re.Match[str]) -> str:
    return _ATTENTION[match[1]]


def _revealed(names: list[str], prefix: str, converted: Mapping[str, str]) -> dict[str, str]:
    """The renaming that a converter revealed; a name it dropped keeps its own, to be reported as extra."""
    found = {str(theirs): ours for ours, theirs in converted.items()}
    return {name: found.get(name, name.removeprefix(prefix)) for name in names}


def _embedder(names: Iterable[str]) -> dict[str, str]:
    renamed = {}
    for name in names:
        own = name.removeprefix("vqvae_LQ.")
        if own == name or own.startswith(_DECODER) or _SECOND_NORM.fullmatch(own):
            continue
        renamed[name] = "codebook.weight" if own == "quantize.embedding.weight" else own
    return renamed


def _check(
    sources: Mapping[str, tuple[TensorFile, str]], expected: Mapping[str, tuple[int, ...]], files: Mapping[str, Path]
) -> None:
    """Raise ModelError unless the files hold exactly what is expected, in its shapes."""
    missing, extra = sorted(set(expected) - set(sources)), sorted(set(sources) - set(expected))
    if missing or extra:
        names = ", ".join(sorted({path.name for path in files.values()}))
        strange = [f"{sources[name][1]} in {sources[name][0].path.name}" for name in extra]
        raise ModelError(f"{names}: tensors missing: {first_few(missing)}; not expected: {first_few(strange)}")
    for name, shape in expected.items():
        file, theirs = sources[name]
        if _trimmed(file.shapes[theirs]) != _trimmed(shape):
            found = list(file.shapes[theirs])
            raise ModelError(f"{file.path}: {theirs} has shape {found}, {name} needs {list(shape)}")


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without trailing ones: some files store a 1x1 convolution as a linear layer, or the other way round."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
