"""LoRA weights as diffusers stores them, merged into the weights they were trained for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..errors import ConfigError, ModelError, first_few
from .tables import table_of, typed
from .tensor_files import TensorFile

_DOWN, _UP = ("lora_A", "lora.down", "lora_down"), ("lora_B", "lora.up", "lora_up")
_KEY = re.compile(rf"(.+)\.({'|'.join(map(re.escape, _DOWN + _UP))})(?:\.default)?\.weight")


@dataclass(frozen=True)
class LoraPair:
    """One layer's pair of tensors, by name, and the scale of their product."""

    down: str
    up: str
    scale: float  # alpha / rank, or alpha / sqrt(rank) for rsLoRA


@dataclass(frozen=True)
class _Settings:
    """PEFT's settings, as diffusers stores them in a file's metadata."""

    alpha: float | None  # None = the rank
    own: Mapping[re.Pattern[str], float]  # alphas of layers that differ
    by_root: bool  # rsLoRA: scaled by sqrt(rank)

    def scale(self, layer: str, rank: int, alpha: float | None) -> float:
        """The scale of a layer's pair; `alpha` is the one stored beside it, None = the settings'."""
        if alpha is None:
            alpha = next((alpha for pattern, alpha in self.own.items() if pattern.fullmatch(layer)), self.alpha)
        return (rank if alpha is None else alpha) / (rank**0.5 if self.by_root else rank)


def find_lora_pairs(file: TensorFile) -> dict[str, LoraPair]:
    """Return a file's pairs by layer, such as `unet.conv_in`.

    Raises ModelError naming keys that form no pair, and for shapes or settings that are damaged.
    """
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
        raise ModelError(f"{file.path}: not LoRA pairs: {first_few(sorted(strange)) if strange else 'empty'}")
    settings = _settings(file)
    found = {}
    for layer, pair in pairs.items():
        shape, beside = file.shapes[pair["down"]], alphas.get(layer)
        if len(shape) < 2 or math.prod(shape) == 0:
            raise ModelError(f"{file.path}: damaged, {pair['down']} {list(shape)} has no rank")
        if beside and math.prod(file.shapes[beside]) != 1:
            raise ModelError(f"{file.path}: damaged, {beside} {list(file.shapes[beside])} is not a single number")
        scale = settings.scale(layer, shape[0], file.read(beside).item() if beside else None)
        found[layer] = LoraPair(pair["down"], pair["up"], scale)
    return found


def _settings(file: TensorFile) -> _Settings:
    """Read the settings in a file's metadata. Raises ModelError when they are malformed."""
    try:
        found = json.loads(file.metadata.get("lora_adapter_metadata", "{}"))
        table = table_of("settings", found, "PEFT's")
        alpha = table.get("unet.lora_alpha")
        own = table_of("unet.alpha_pattern", table.get("unet.alpha_pattern") or {}, "alphas by layer")
        return _Settings(
            None if alpha is None else _finite("unet.lora_alpha", alpha),
            {re.compile(rf"(.*\.)?({key})"): _finite(f"unet.alpha_pattern.{key}", value) for key, value in own.items()},
            bool(table.get("unet.use_rslora")),
        )
    except (ValueError, OverflowError, RecursionError, ConfigError, re.error) as error:
        raise ModelError(f"{file.path}: damaged, its lora_adapter_metadata cannot be used ({error})") from error


def _finite(name: str, value: object) -> float:
    number: float = typed(name, value, float)
    if not math.isfinite(number):
        raise ConfigError(f"{name}: expected a finite number, got {number}")
    return number


def merge_lora(weight: Tensor, update: LoraPair, file: TensorFile) -> Tensor:
    """Return `W + scale * (up @ down)` for a linear or convolution weight, float32 in its shape.

    Raises ModelError when the shapes do not fit.
    """
    down, up = file.read(update.down), file.read(update.up)
    fits = down.ndim >= 2 and up.ndim >= 2 and up.shape[0] == weight.shape[0] and up[0].numel() == down.shape[0]
    if not fits or down[0].numel() != weight[0].numel():
        raise ModelError(
            f"{file.path}: {update.down} {list(down.shape)} and {update.up} {list(up.shape)} do not fit a weight of "
            f"{list(weight.shape)}"
        )
    delta: Tensor = up.flatten(1) @ down.flatten(1)
    return weight + update.scale * delta.view(weight.shape)
