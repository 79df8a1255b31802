"""A checkpoint's low-bit layers: their formats as JSON, validated before anything is built or replaced."""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Mapping
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, ModelError, first_few
from ..kernels.hadamard import has_hadamard
from ..kernels.quantize import code_range
from ..nn.qlayer import QuantLayer
from ..nn.swap import Layer, empty_like, is_pointwise, quant_layers, quantizable, swap
from ..types import BITS, BRANCH_BITS, FLOAT_BRANCH, LayerFormat

_POSITIVE, _NOT_ZERO = ("weight_scale", "down_scale", "up_scale"), "channel_scale"
# Omitted from a layer's table at these values, by the file version that introduced the fields.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "2": {"zero_point": None, "per_pixel": False},
    "3": {"branch_bits": FLOAT_BRANCH},
}
_ALL_DEFAULTS = {key: value for table in _DEFAULTS.values() for key, value in table.items()}
VERSIONS = ("1", *_DEFAULTS)


def formats_to_json(model: nn.Module) -> str:
    """Every low-bit layer's format by name; fields that later versions added are omitted at their defaults."""
    return json.dumps({name: _table(layer.format) for name, layer in quant_layers(model).items()})


def version_needed(model: nn.Module) -> str:
    """The lowest file version that can hold the model's low-bit layers, so that earlier releases can read it."""
    used = {key for layer in quant_layers(model).values() for key in _table(layer.format)}
    return max((version for version, table in _DEFAULTS.items() if table.keys() & used), default=VERSIONS[0])


def _table(fmt: LayerFormat) -> dict[str, Any]:
    return {key: value for key, value in asdict(fmt).items() if key not in _ALL_DEFAULTS or value != _ALL_DEFAULTS[key]}


def formats_from_json(text: str | None, model: nn.Module) -> dict[str, LayerFormat]:
    """The formats by name, checked against the model's layers; {} for None. Raises ConfigError naming the field."""
    if text is None:
        return {}
    try:
        table: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"layers: not JSON ({error})") from error
    if not isinstance(table, dict) or not table:
        raise ConfigError("layers: expected a table from layer names to formats")
    known = quantizable(model)
    unknown = sorted(str(name) for name in set(table) - set(known))
    if unknown:
        raise ConfigError(f"layers: the model has no {first_few(unknown)}")
    return {name: _checked(name, known[name], fields) for name, fields in table.items()}


def low_bit_state(model: nn.Module, formats: dict[str, LayerFormat]) -> tuple[dict[str, Tensor], set[str]]:
    """What `state_dict` and `stored_as_is` return once layers have these formats; low-bit tensors are on meta."""
    fixed: set[str] = set()
    layers = quantizable(model)
    names = {layers[name]: name for name in formats}
    state = state_beside(model, names)
    for alias, module in model.named_modules(remove_duplicate=False):  # a layer held twice is stored twice
        if module in names:
            for key, tensor in empty_layer(layers[names[module]], formats[names[module]]).state_dict().items():
                state[f"{alias}.{key}"] = tensor
                fixed.add(f"{alias}.{key}")
    return state, fixed


def state_beside(model: nn.Module, layers: Container[nn.Module]) -> dict[str, Tensor]:
    """`state_dict` without the tensors of these layers, under all names that they are held by."""
    state: dict[str, Tensor] = dict(model.state_dict())
    for alias, module in model.named_modules(remove_duplicate=False):
        if module in layers:
            for key in module.state_dict():
                state.pop(f"{alias}.{key}", None)  # a hook may have renamed it
    return state


def empty_layer(layer: Layer, fmt: LayerFormat) -> QuantLayer:
    """A low-bit layer to replace another, on the meta device."""
    with torch.device("meta"):
        return empty_like(layer, fmt)


def add_low_bit_layers(model: nn.Module, formats: dict[str, LayerFormat]) -> None:
    """Replace layers of a model, in place, by empty low-bit ones on the meta device."""
    known = quantizable(model)
    swap(model, {name: empty_layer(known[name], fmt) for name, fmt in formats.items()})


def _checked(name: str, layer: Layer, table: Any) -> LayerFormat:
    shape = layer.weight.shape
    table = {**_ALL_DEFAULTS, **table} if isinstance(table, dict) else table
    expected = {f.name for f in fields(LayerFormat)}
    if not isinstance(table, dict) or set(table) != expected:
        raise ConfigError(f"layers.{name}: expected a table of {', '.join(sorted(expected))}")
    limits = {
        "weight_bits": (BITS.start, BITS.stop - 1),
        "activation_bits": (BITS.start, BITS.stop - 1),
        "block": (1, shape[1]),
        "seed": (0, 2**63 - 1),
        "rank": (0, min(shape[0], shape[1:].numel())),
    }
    for field, (low, high) in limits.items():
        if type(table[field]) is not int or not low <= table[field] <= high:
            raise ConfigError(f"layers.{name}.{field}: from {low} to {high}, got {table[field]!r:.40}")
    clip = table["clip"]
    if type(clip) not in (int, float) or not 0.01 <= clip <= 1:
        raise ConfigError(f"layers.{name}.clip: a number from 0.01 to 1, got {clip!r:.40}")
    zero_point = table["zero_point"]
    if zero_point is not None and type(zero_point) is not int:
        raise ConfigError(f"layers.{name}.zero_point: a whole number or none, got {zero_point!r:.40}")
    try:
        code_range(table["activation_bits"], zero_point)
    except ConfigError as error:
        raise ConfigError(f"layers.{name}: {error}") from error
    per_pixel = table["per_pixel"]
    if type(per_pixel) is not bool or (per_pixel and not is_pointwise(layer)):
        raise ConfigError(f"layers.{name}.per_pixel: true (of a pointwise convolution) or false, got {per_pixel!r:.40}")
    branch_bits = table["branch_bits"]
    if type(branch_bits) is not int or branch_bits not in BRANCH_BITS:
        raise ConfigError(f"layers.{name}.branch_bits: {' or '.join(map(str, BRANCH_BITS))}, got {branch_bits!r:.40}")
    if shape[1] % table["block"] or not has_hadamard(table["block"]):
        raise ConfigError(f"layers.{name}.block: no rotation of {table['block']} for {shape[1]} channels")
    return LayerFormat(**{**table, "clip": float(clip)})


def stored_as_is(model: nn.Module) -> set[str]:
    """Names of the tensors whose dtype is part of the format: all those of low-bit layers."""
    layers = ((n, m) for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, QuantLayer))
    return {f"{name}.{key}" for name, layer in layers for key in layer.state_dict()}


def check_version(version: object, source: object) -> None:
    """Raise ModelError, which begins with its source, for a file version that this release does not read."""
    if version not in VERSIONS:
        raise ModelError(
            f"{source}: format version {version!r:.20}, this release reads {VERSIONS[-1]!r}: update QuantFace"
        )


def check_values(tensors: Mapping[str, Tensor], fixed: Collection[str], exact: Collection[str], source: object) -> None:
    """Raise ModelError, which begins with its source, for values that a model's tensors cannot have.

    These are NaN; infinity in the `exact` ones; and in those of low-bit layers, the `fixed` ones, weight and branch
    scales that are not positive throughout, and channel scales that hold a zero.
    """
    floats = {name: t for name, t in tensors.items() if t.is_floating_point()}
    if broken := [n for n, t in floats.items() if t.isnan().any() or (n in exact and t.isinf().any())]:
        raise ModelError(f"{source}: damaged, not finite: {first_few(broken)}")
    scales = {name: t for name, t in floats.items() if name in fixed}
    wrong = [n for n, t in scales.items() if n.endswith(_POSITIVE) and not bool((t > 0).all())]
    wrong += [n for n, t in scales.items() if n.endswith(_NOT_ZERO) and not bool(t.all())]
    if wrong:
        raise ModelError(f"{source}: damaged, scales are zero or negative: {first_few(sorted(wrong))}")
