"""Which balance and range of codes keep a layer's output, and the layer made with them (DESIGN.md 3.1 to 3.3)."""

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

EXPONENTS = (None, 0.25, 0.5, 0.75)  # of the scaling; None = no scaling
DRAWS = 2  # of a rotation's signs
BELOW = (1 / 2, 3 / 8, 1 / 4, 1 / 8, 1 / 16)  # shares of activation codes below zero, of what is not rotated
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # of activations
_TYPICAL_CLIP, _TYPICAL_PLAIN_CLIP = 0.8, 0.6  # at which balances are compared, rotated and not: tails are longer there
_NEXT_DRAW = 2**32  # from the seed of one draw to that of the next: layers count on by one


def search(layers: Sequence[LayerSearch], config: QuantConfig) -> tuple[Balance, ActivationRange]:
    """The balance and range of activation codes of least output error in all: rotated or not, at the best clip."""
    fmt = layers[0].fmt
    blocks = [fmt.block, 1] if fmt.block > 1 and config.search_rotation else [fmt.block]
    found = [_without_clips(layers, config, Balance(None, block, fmt.seed)) for block in blocks]
    if config.clipping:
        found = [(balance, _best_clip(layers, balance, within)) for balance, within in found]
    return min(found, key=lambda candidate: _error(layers, *candidate))


def _best_clip(layers: Sequence[LayerSearch], balance: Balance, within: ActivationRange) -> ActivationRange:
    """Downhill from the range's own clip: too little is cut off, then too much, and the error has one valley."""
    for step in (-1, 1):
        while 0 <= (at := CLIPS.index(within.clip) + step) < len(CLIPS):
            other = replace(within, clip=CLIPS[at])
            if _error(layers, balance, other) >= _error(layers, balance, within):
                break
            within = other
    return within


def _without_clips(
    layers: Sequence[LayerSearch], config: QuantConfig, balance: Balance
) -> tuple[Balance, ActivationRange]:
    """The best exponent at a block, then what a rotation has to choose: its signs; or its absence: codes below zero.

    A rotation makes values lie evenly around zero.
    """
    rotated = balance.block > 1
    typical = _TYPICAL_CLIP if rotated else _TYPICAL_PLAIN_CLIP
    within = ActivationRange(typical if config.clipping else 1.0, 0.5 if config.search_zero_point else None)
    if config.scaling:
        balance = _best_exponent(layers, balance, within)
    if rotated and config.search_rotation:
        seeds = (balance.seed + draw * _NEXT_DRAW for draw in range(DRAWS))
        balance = min((replace(balance, seed=seed) for seed in seeds), key=lambda b: _error(layers, b, within))
    if not rotated and config.search_zero_point:
        within = min((replace(within, below=share) for share in BELOW), key=lambda w: _error(layers, balance, w))
    return balance, within


def _error(layers: Sequence[LayerSearch], balance: Balance, within: ActivationRange) -> float:
    return sum(layer.error(balance, within) for layer in layers)


def _best_exponent(layers: Sequence[LayerSearch], balance: Balance, within: ActivationRange) -> Balance:
    return min((replace(balance, exponent=e) for e in EXPONENTS), key=lambda b: _error(layers, b, within))


def quantize_group(
    layers: Mapping[str, Layer],
    formats: Mapping[str, LayerFormat],
    statistics: Mapping[str, ChannelStatistics],
    x: Tensor,
    config: QuantConfig,
) -> list[tuple[QuantLayer, LayerReport]]:
    """Search one balance and range for layers that read x, by their output errors, then round their weights."""
    consumers = torch.cat([layer.weight for layer in layers.values()]) if len(layers) > 1 else None
    searches = {n: LayerSearch(layer, formats[n], statistics[n], x, config, consumers) for n, layer in layers.items()}
    best, within = search(list(searches.values()), config)
    results = []
    for name, one in searches.items():
        before, built = one.maxmin_error(), one.build(best, within)
        largest = statistics[name].largest
        outliers = float(largest.max()) / float(largest.median().clamp_min(1e-12))
        shape, after = tuple(layers[name].weight.shape), one.error(best, within)
        results.append((built, LayerReport(name, shape, built.format, best.exponent, outliers, before, after)))
    return results
