"""Low-rank updates as diffusers stores them, merged into the weights they were trained beside."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import ModelError
from .tensor_files import TensorFile

_DOWN, _UP = ("lora_A", "lora.down", "lora_down"), ("lora_B", "lora.up", "lora_up")
_KEY = re.compile(rf"(.+)\.({'|'.join(map(re.escape, _DOWN + _UP))})(?:\.default)?\.weight")


@dataclass(frozen=True)
class LoraPair:
    """The names of one layer's pair, and how much it counts."""

    down: str
    up: str
    scale: float  # alpha / rank


def find_lora_pairs(file: TensorFile) -> dict[str, LoraPair]:
    """The pairs of a file by layer, such as `unet.conv_in`. Raises ModelError naming keys that are no pair."""
    pairs: dict[str, dict[str, str]] = {}
    alphas = {key.removesuffix(".alpha"): key for key in file.shapes if key.endswith(".alpha")}
    strange = []
    for key in file.shapes:
        match = _KEY.fullmatch(key)
        if match:
            pairs.setdefault(match[1], {})["down" if match[2] in _DOWN else "up"] = key
        elif not key.endswith(".alpha"):
            strange.append(key)
    strange += [key for layer, key in alphas.items() if layer not in pairs]
    strange += [key for pair in pairs.values() if len(pair) < 2 for key in pair.values()]
    if strange or not pairs:
        raise ModelError(f"{file.path}: not pairs of low-rank weights: {', '.join(sorted(strange)[:3]) or 'empty'}")
    settings = _settings(file)
    found = {}
    for layer, pair in pairs.items():
        rank = file.shapes[pair["down"]][0]
        alpha = float(file.read(alphas[layer])) if layer in alphas else _alpha(settings, layer, rank)
        root = rank**0.5 if settings.get("unet.use_rslora") else rank
        found[layer] = LoraPair(pair["down"], pair["up"], alpha / root)
    return found


def _settings(file: TensorFile) -> dict[str, Any]:
    """PEFT's configuration as diffusers keeps it in the metadata; empty where there is none."""
    try:
        found = json.loads(file.metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelError(f"{file.path}: its lora_adapter_metadata is not a table in JSON")
    return found


def _alpha(settings: dict[str, Any], layer: str, rank: int) -> float:
    """The layer's alpha; without any word of it, the rank: the update counts as it is."""
    own = settings.get("unet.alpha_pattern") or {}
    for pattern, alpha in own.items():
        if re.fullmatch(rf"(.*\.)?({pattern})", layer):
            return float(alpha)
    return float(settings.get("unet.lora_alpha") or rank)


def merge_lora(weight: Tensor, update: LoraPair, file: TensorFile) -> Tensor:
    """`W + scale * up down`, linear or convolution, in float32. Raises ModelError when shapes do not fit."""
    down, up = file.read(update.down), file.read(update.up)
    fits = down.ndim >= 2 and up.ndim >= 2 and up.shape[0] == weight.shape[0] and up[0].numel() == down.shape[0]
    if not fits or down[0].numel() != weight[0].numel():
        raise ModelError(
            f"{file.path}: {update.down} {list(down.shape)} and {update.up} {list(up.shape)} do not fit a weight of "
            f"{list(weight.shape)}"
        )
    delta: Tensor = up.flatten(1) @ down.flatten(1)
    return weight + update.scale * delta.view(weight.shape)
