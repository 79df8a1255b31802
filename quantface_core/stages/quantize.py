"""Balance and quantize: a full-precision restorer becomes one of integers, layer by layer.

Each layer is searched while the full-precision model runs and its input is at hand, so no more than one
layer's copies exist at a time. The model itself changes only at the end, all at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..errors import ConfigError, UsageError
from ..kernels.allocator import kept_memory
from ..kernels.hadamard import largest_block
from ..kernels.quantize import largest_code
from ..nn.qlayer import QuantLayer
from ..nn.swap import quantizable, swap
from ..restorer import OneStepRestorer
from ..restorer.attention import reading_alike
from ..restorer.ways import fold_balances
from ..types import BitPlan, LayerFormat, LayerReport, QuantizeSettings
from .calibrate import ChannelStatistics, Progress, listening
from .trial import LayerTrial

EXPONENTS = (None, 0.25, 0.5, 0.75)  # of the scaling; None = no scaling
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # of activations
_EDGES = ("conv_in", "conv_out", "time_emb", "quant_conv", "time_embedding")
_LARGEST_SEED = 2**62  # layers count on from it
_NARROW = 2  # a layer with fewer channels than this many ranks gets no branch: it would replace the layer


def plan_formats(
    restorer: OneStepRestorer, settings: QuantizeSettings, plan: BitPlan | None = None
) -> dict[str, LayerFormat]:
    """Every layer's format before the search, by name: widths, rotation block and seed, rank.

    A plan's widths go before the settings'. Raises ConfigError when it is for another model.
    """
    widths = dict(plan.layers) if plan else {}
    unknown = sorted(set(widths) - set(quantizable(restorer)))
    if unknown:
        raise ConfigError(f"the plan is for another model: there is no layer {unknown[0]}")
    for bits in (settings.weight_bits, settings.activation_bits, settings.edge_bits):
        largest_code(bits)
    if settings.rank < 0 or settings.block < 1 or settings.seed < 0:
        raise ConfigError("rank and seed are at least 0, a rotation block at least 1")
    rooms = {name for name, _ in restorer.named_children()}
    if set(settings.parts) - rooms:
        raise ConfigError(f"parts are of {', '.join(sorted(rooms))}: there is no {min(set(settings.parts) - rooms)}")
    if settings.seed > _LARGEST_SEED:
        raise ConfigError(f"a seed is at most {_LARGEST_SEED}")
    formats: dict[str, LayerFormat] = {}
    first = {name: group[0] for group in reading_alike(restorer) for name in group}
    for index, (name, layer) in enumerate(quantizable(restorer).items()):
        if name.split(".")[0] not in settings.parts:
            continue
        edge = any(word in name for word in _EDGES)
        outputs, channels = layer.weight.shape[:2]
        narrow = min(outputs, channels) < _NARROW * settings.rank
        uniform = (settings.edge_bits,) * 2 if edge else (settings.weight_bits, settings.activation_bits)
        weight_bits, activation_bits = widths.get(name, uniform)
        formats[name] = LayerFormat(
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            block=largest_block(channels, settings.block),
            seed=formats[first[name]].seed if first.get(name) in formats else settings.seed + index,
            rank=0 if edge or narrow else settings.rank,
        )
    return formats


@kept_memory()
def quantize_restorer(
    restorer: OneStepRestorer,
    statistics: Mapping[str, ChannelStatistics],
    images: Tensor,
    settings: QuantizeSettings | None = None,
    progress: Progress | None = None,
    plan: BitPlan | None = None,
) -> list[LayerReport]:
    """Quantize `restorer` in place; `images` [N, 3, H, W] in [-1, 1] feed the searches. Returns the reports.

    Interrupted or refused, the restorer stays as it was. Raises UsageError, ConfigError.
    """
    settings = settings or QuantizeSettings()
    if len(images) == 0:
        raise UsageError("quantizing needs at least one image")
    formats = {n: f for n, f in plan_formats(restorer, settings, plan).items() if n in statistics}
    if not formats:
        raise UsageError(f"nothing to quantize in {', '.join(settings.parts)}")
    layers = quantizable(restorer)
    readers = {name: group for group in reading_alike(restorer) for name in group}
    done: dict[str, QuantLayer] = {}
    reports: list[LayerReport] = []

    def heard(name: str, layer: nn.Module, x: Tensor) -> None:
        if name in done:
            return
        if progress:
            progress(len(done), len(formats))
        alike = (n for n in readers.get(name, [name]) if n in formats)
        group = {n: layers[n] for n in alike if formats[n].activation_bits == formats[name].activation_bits}
        for built, report in quantize_alike(group, formats, statistics[name], x, settings):
            done[report.name] = built
            reports.append(report)

    with listening({name: layers[name] for name in formats}, heard):
        restorer(images.to(restorer.device))
    swap(restorer, done)
    fold_balances(restorer)
    if progress:
        progress(len(formats), len(formats))
    return reports


def quantize_alike(
    layers: Mapping[str, nn.Linear | nn.Conv2d],
    formats: Mapping[str, LayerFormat],
    statistics: ChannelStatistics,
    x: Tensor,
    settings: QuantizeSettings,
) -> list[tuple[QuantLayer, LayerReport]]:
    """Search one exponent and one clip for layers that read x, by their output errors, then round their weights."""
    readers = torch.cat([layer.weight for layer in layers.values()]) if len(layers) > 1 else None
    trials = {n: LayerTrial(layer, formats[n], statistics, x, settings, readers) for n, layer in layers.items()}
    best, clip = search(list(trials.values()), settings)
    forms = {name: replace(formats[name], clip=clip) for name in layers}
    found = {name: (trial.build(best, forms[name]), trial.error(best, clip)) for name, trial in trials.items()}
    trials.clear()  # a picture's maps: not two layers' at once
    outliers = float(statistics.largest.max()) / float(statistics.largest.median().clamp_min(1e-12))
    results = []
    for name, (built, error) in found.items():
        plain = replace(forms[name], block=1, rank=0)
        before = LayerTrial(layers[name], plain, statistics, x, replace(settings, clipping=False)).error(None, 1.0)
        shape = tuple(layers[name].weight.shape)
        results.append((built, LayerReport(name, shape, forms[name], best, outliers, before, error)))
    return results


def search(trials: Sequence[LayerTrial], settings: QuantizeSettings) -> tuple[float | None, float]:
    """The (exponent, clipping ratio) of least output error in all, of those the settings allow."""

    def error(exponent: float | None, clip: float) -> float:
        return sum(trial.error(exponent, clip) for trial in trials)

    best = None
    if settings.scaling:
        best = min(EXPONENTS, key=lambda a: error(a, 0.8 if settings.clipping else 1.0))
    return best, min(CLIPS, key=lambda c: error(best, c)) if settings.clipping else 1.0
