"""Which balance and clip keep a layer's output, and the layer made with them (DESIGN.md sections 3.1 to 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..nn.qlayer import QuantLayer
from ..nn.swap import Layer
from ..types import LayerFormat, LayerReport, QuantConfig
from .layer_search import UNBALANCED, Balance, LayerSearch
from .observe import ChannelStatistics

EXPONENTS = (None, 0.25, 0.5, 0.75)  # of the scaling; None = no scaling
DRAWS = 2  # of a rotation's signs
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # of activations
_TYPICAL_CLIP = 0.8  # at which balances are compared
_NEXT_DRAW = 2**32  # from the seed of one draw to that of the next: layers count on by one


def search(layers: Sequence[LayerSearch], config: QuantConfig) -> tuple[Balance, float]:
    """The (balance, clipping ratio) of least output error in all: exponent, rotation and clip, one after the other."""
    clip = _TYPICAL_CLIP if config.clipping else 1.0

    def error(balance: Balance, clip: float = clip) -> float:
        return sum(layer.error(balance, clip) for layer in layers)

    fmt = layers[0].fmt
    best = Balance(None, fmt.block, fmt.seed)
    if config.scaling:
        best = min((replace(best, exponent=exponent) for exponent in EXPONENTS), key=error)
    if config.search_rotation and fmt.block > 1:
        drawn = (replace(best, seed=fmt.seed + draw * _NEXT_DRAW) for draw in range(DRAWS))
        best = min((*drawn, replace(best, block=1)), key=error)
    if config.clipping:
        clip = min(CLIPS, key=lambda ratio: error(best, ratio))
    return best, clip


def quantize_group(
    layers: Mapping[str, Layer],
    formats: Mapping[str, LayerFormat],
    statistics: ChannelStatistics,
    x: Tensor,
    config: QuantConfig,
) -> list[tuple[QuantLayer, LayerReport]]:
    """Search one balance and one clip for layers that read x, by their output errors, then round their weights."""
    consumers = torch.cat([layer.weight for layer in layers.values()]) if len(layers) > 1 else None
    searches = {n: LayerSearch(layer, formats[n], statistics, x, config, consumers) for n, layer in layers.items()}
    best, clip = search(list(searches.values()), config)
    found = {name: (one.build(best, clip), one.error(best, clip)) for name, one in searches.items()}
    searches.clear()  # a picture's maps: not two layers' at once
    outliers = float(statistics.largest.max()) / float(statistics.largest.median().clamp_min(1e-12))
    results = []
    for name, (built, error) in found.items():
        plain, unclipped = replace(formats[name], rank=0), replace(config, clipping=False)
        before = LayerSearch(layers[name], plain, statistics, x, unclipped).error(UNBALANCED, 1.0)
        shape = tuple(layers[name].weight.shape)
        results.append((built, LayerReport(name, shape, built.format, best.exponent, outliers, before, error)))
    return results
