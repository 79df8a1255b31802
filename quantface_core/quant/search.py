"""Search the balance and range that best preserve a layer's output, and build it (docs/method.md, sections 2 to 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..nn.qlayer import QuantLayer
from ..nn.swap import Layer
from ..types import LayerFormat, LayerReport, QuantConfig
from .balanced_weight import Balance
from .layer_search import ActivationRange, LayerSearch
from .observe import ChannelStatistics

EXPONENTS = (None, 0.25, 0.5, 0.75)  # of the channel scaling; None = no scaling
DRAWS = 2  # of a rotation's signs
ZERO_POINT_SHARES = (1 / 2, 3 / 8, 1 / 4, 1 / 8, 1 / 16)  # shares of activation codes below zero, for unrotated layers
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # clipping ratios of activations
_TYPICAL_CLIP, _TYPICAL_PLAIN_CLIP = 0.8, 0.6  # clips to compare balances at: unrotated tails are longer
_NEXT_DRAW = 2**32  # seed offset between draws; between layers it is one


def search(layers: Sequence[LayerSearch], config: QuantConfig) -> tuple[Balance, ActivationRange]:
    """The balance and activation range with the least total output error: rotated or not, at the best clip."""
    fmt = layers[0].fmt
    blocks = [fmt.block, 1] if fmt.block > 1 and config.search_rotation else [fmt.block]
    found = [_search_balance(layers, config, Balance(None, block, fmt.seed)) for block in blocks]
    if config.clipping:
        found = [(balance, _best_clip(layers, balance, activation_range)) for balance, activation_range in found]
    return min(found, key=lambda candidate: _error(layers, *candidate))


def _best_clip(layers: Sequence[LayerSearch], balance: Balance, activation_range: ActivationRange) -> ActivationRange:
    """Descend from the range's own clip: with more clipping the error falls, then rises, so it has one minimum."""
    for step in (-1, 1):
        while 0 <= (at := CLIPS.index(activation_range.clip) + step) < len(CLIPS):
            other = replace(activation_range, clip=CLIPS[at])
            if _error(layers, balance, other) >= _error(layers, balance, activation_range):
                break
            activation_range = other
    return activation_range


def _search_balance(
    layers: Sequence[LayerSearch], config: QuantConfig, balance: Balance
) -> tuple[Balance, ActivationRange]:
    """The best exponent for a block; then a rotation's signs or, without one, the share of codes below zero.

    Rotated values lie evenly around zero, so rotated layers need no search for that share.
    """
    rotated = balance.block > 1
    typical = _TYPICAL_CLIP if rotated else _TYPICAL_PLAIN_CLIP
    activation_range = ActivationRange(typical if config.clipping else 1.0, 0.5 if config.search_zero_point else None)
    if config.scaling:
        balance = _best_exponent(layers, balance, activation_range)
    if rotated and config.search_rotation:
        seeds = (balance.seed + draw * _NEXT_DRAW for draw in range(DRAWS))
        balance = min(
            (replace(balance, seed=seed) for seed in seeds), key=lambda b: _error(layers, b, activation_range)
        )
    if not rotated and config.search_zero_point:
        activation_range = min(
            (replace(activation_range, zero_point_share=share) for share in ZERO_POINT_SHARES),
            key=lambda w: _error(layers, balance, w),
        )
    return balance, activation_range


def _error(layers: Sequence[LayerSearch], balance: Balance, activation_range: ActivationRange) -> float:
    return sum(layer.error(balance, activation_range) for layer in layers)


def _best_exponent(layers: Sequence[LayerSearch], balance: Balance, activation_range: ActivationRange) -> Balance:
    return min((replace(balance, exponent=e) for e in EXPONENTS), key=lambda b: _error(layers, b, activation_range))


def quantize_group(
    layers: Mapping[str, Layer],
    formats: Mapping[str, LayerFormat],
    statistics: Mapping[str, ChannelStatistics],
    x: Tensor,
    config: QuantConfig,
) -> list[tuple[QuantLayer, LayerReport]]:
    """Search one balance and range for layers that share an input x, by their output errors, then round their weights.

    Returns (low-bit layer, report) for each, in their order.
    """
    consumers = torch.cat([layer.weight for layer in layers.values()]) if len(layers) > 1 else None
    searches = {n: LayerSearch(layer, formats[n], statistics[n], x, config, consumers) for n, layer in layers.items()}
    best, activation_range = search(list(searches.values()), config)
    results = []
    for name, one in searches.items():
        before = one.maxmin_error()
        built, after = one.build(best, activation_range)
        largest = statistics[name].largest
        outliers = float(largest.max()) / float(largest.median().clamp_min(1e-12))
        shape = tuple(layers[name].weight.shape)
        results.append((built, LayerReport(name, shape, built.format, best.exponent, outliers, before, after)))
    return results
