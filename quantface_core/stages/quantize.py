"""Balance and quantize: a full-precision restorer becomes one of integers, layer by layer.

Each layer is searched while the full-precision model runs and its input is at hand, so no more than one
layer's copies exist at a time. The model itself changes only at the end, all at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from ..errors import ConfigError, UsageError
from ..kernels.allocator import kept_memory
from ..kernels.hadamard import largest_block
from ..kernels.quantize import largest_code
from ..nn.qlayer import QuantLayer
from ..nn.swap import quantizable, swap
from ..restorer import OneStepRestorer
from ..types import BitPlan, LayerFormat, LayerReport, QuantizeSettings
from .calibrate import ChannelStatistics, Progress, listening
from .trial import LayerTrial

EXPONENTS = (None, 0.25, 0.5, 0.75)  # of the scaling; None = no scaling
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # of activations
_EDGES = ("conv_in", "conv_out", "time_emb", "quant_conv", "time_embedding")
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
    formats = {}
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
            seed=settings.seed + index,
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
    done: dict[str, QuantLayer] = {}
    reports: list[LayerReport] = []

    def heard(name: str, layer: nn.Module, x: Tensor) -> None:
        if name in done:
            return
        if progress:
            progress(len(done), len(formats))
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        done[name], report = quantize_layer(name, layer, formats[name], statistics[name], x, settings)
        reports.append(report)

    layers = quantizable(restorer)
    with listening({name: layers[name] for name in formats}, heard):
        restorer(images.to(restorer.device))
    swap(restorer, done)
    if progress:
        progress(len(formats), len(formats))
    return reports


def quantize_layer(
    name: str,
    layer: nn.Linear | nn.Conv2d,
    form: LayerFormat,
    statistics: ChannelStatistics,
    x: Tensor,
    settings: QuantizeSettings,
) -> tuple[QuantLayer, LayerReport]:
    """Search exponent and clip of one layer by its output error on `x`, then round its weight."""
    trial = LayerTrial(layer, form, statistics, x, settings)
    best, clip = search(trial)
    form = replace(form, clip=clip)
    built, error = trial.build(best, form), trial.error(best, clip)
    del trial  # a picture's maps: not two layers' at once
    plain = LayerTrial(layer, replace(form, block=1, rank=0), statistics, x, replace(settings, clipping=False))
    median = float(statistics.largest.median().clamp_min(1e-12))
    report = LayerReport(
        name,
        tuple(layer.weight.shape),
        form,
        best,
        float(statistics.largest.max()) / median,
        plain.error(None, 1.0),
        error,
    )
    return built, report


def search(trial: LayerTrial) -> tuple[float | None, float]:
    """The (exponent, clipping ratio) of least output error, of those the settings allow."""
    settings, best = trial.settings, None
    if settings.scaling:
        best = min(EXPONENTS, key=lambda a: trial.error(a, 0.8 if settings.clipping else 1.0))
    return best, min(CLIPS, key=lambda c: trial.error(best, c)) if settings.clipping else 1.0
