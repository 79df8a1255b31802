"""Sensitivity: how each layer's widths affect a model's output (docs/method.md, section 5).

Each layer alone is quantized at a probe width, and the model's output error measured. How that error changes with the
width follows from the layer's own output error at every width, weights and activations apart: one product each.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..nn.modes import eval_mode
from ..nn.qlayer import QuantLayer
from ..nn.replace import replace_by_name
from ..nn.swap import Layer, quantizable
from ..runtime.autocast import without_autocast
from ..runtime.memory import kept_memory, released_memory
from ..runtime.random_state import seeded
from ..types import BITS, LayerFormat, LayerSensitivity, Progress, QuantConfig, Sensitivity, silent
from .batches import Forward, call, materialize
from .costs import count_macs, overhead, stored_bytes
from .formats import state_beside
from .joined_inputs import join_inputs
from .layer_search import ActivationRange, LayerSearch
from .observe import ChannelStatistics
from .output_error import relative_error, tensors_of
from .search import CLIPS, search

PROBE_BITS = 4  # width of weights and activations at which the output error is measured
_IGNORED = {"weight_bits", "activation_bits", "rounding"}  # of a config: a probe has its own
_THOUSAND = 1000  # steps in which progress is reported


class Judge(ABC):
    """Compares a model with one layer replaced to the original."""

    metric: str  # of the perceptual loss; empty = none

    @abstractmethod
    def with_layer(self, name: str, layer: QuantLayer) -> tuple[float, float]:
        """(the output's squared error over its variance, perceptual loss) with one layer replaced."""

    def share(self, done: Sequence[str], names: Sequence[str]) -> float:
        """The share of the expected time for `names`, 0 to 1, passed once `done` are done; all take as long."""
        return len(done) / len(names)


@contextmanager
def replaced_layer(model: nn.Module, name: str, layer: QuantLayer) -> Iterator[None]:
    """Within the block, one layer of the model is replaced."""
    before = model.get_submodule(name)
    replace_by_name(model, {name: layer})
    try:
        yield
    finally:
        replace_by_name(model, {name: before})
        layer.release()  # a large model's prepacked layers would not all fit in memory


class OutputJudge(Judge):
    """Judges by all floating-point outputs of the model on some batches, without a perceptual loss."""

    metric = ""

    def __init__(self, model: nn.Module, batches: Sequence[Any], forward: Forward) -> None:
        self._model, self._batches, self._forward = model, batches, forward
        self._exact = self._outputs()
        if not self._exact:
            raise UsageError("the model's output holds no floating-point tensor: give a `forward` that returns one")

    def _outputs(self) -> list[Tensor]:
        """Of all batches; a forward that draws noise draws the same every time."""
        outputs: list[Tensor] = []
        with eval_mode(self._model):
            for index, batch in enumerate(self._batches):
                with seeded(index):
                    made = self._forward(self._model, batch)
                outputs += [t.detach().float().clone() for t in tensors_of(made)]
        return outputs

    def with_layer(self, name: str, layer: QuantLayer) -> tuple[float, float]:
        with replaced_layer(self._model, name, layer):
            made = self._outputs()
        return float(relative_error(made, self._exact)), 0.0


@kept_memory()
def measure_layers(
    model: nn.Module,
    statistics: Mapping[str, ChannelStatistics],
    batches: Iterable[Any],
    formats: Mapping[str, LayerFormat],
    config: QuantConfig,
    *,
    name: str | None = None,
    forward: Forward | None = None,
    judge: Judge | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress = silent,
) -> Sensitivity:
    """Measure the layers that have a format and statistics; the model is left unchanged.

    No plan changes a layer whose format's weight width is not `PROBE_BITS`. `name` is the model's, None = its class's;
    `dtype` is that of other floating-point tensors in its file, None = unchanged. `progress` counts in thousandths of
    the expected time. Raises UsageError when no layer is reached or the output holds no floating-point tensor or is not
    finite.
    """
    batches, forward = materialize(batches), forward or call
    formats = {n: fmt for n, fmt in formats.items() if n in statistics}
    if not formats:
        raise UsageError("nothing to measure: no chosen layer was reached by a batch")
    known = quantizable(model)
    layers = {n: known[n] for n in formats}
    macs = count_macs(model, layers, batches, forward)
    probes = _probe_layers(model, layers, statistics, batches, formats, config, forward, progress)
    judge = judge or OutputJudge(model, batches, forward)
    measured: dict[str, LayerSensitivity] = {}
    for layer_name, fmt in formats.items():
        share = judge.share(list(measured), list(formats))
        progress(_THOUSAND // 2 + int(share * _THOUSAND) // 2, _THOUSAND)
        layer = layers[layer_name]
        measured[layer_name] = _sensitivity(layer_name, layer, fmt, probes[layer_name], macs[layer_name], judge)
    progress(_THOUSAND, _THOUSAND)
    rest = stored_bytes(state_beside(model, set(layers.values())).values(), dtype)
    return Sensitivity(name or type(model).__name__, judge.metric, rest, measured, settings_of(config))


def settings_of(config: QuantConfig) -> dict[str, Any]:
    """The fields of a config that sensitivities depend on, as JSON has them."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return {name: value for name, value in fields.items() if name not in _IGNORED}


@dataclass(frozen=True)
class _Probe:
    """A layer at the probe width, and what its own output says about all widths."""

    low: QuantLayer
    weight_errors: dict[int, float]  # of its output by width, activations exact
    activation_errors: dict[int, float]  # by width, the weight exact


def _probe_layers(
    model: nn.Module,
    layers: Mapping[str, Layer],
    statistics: Mapping[str, ChannelStatistics],
    batches: Sequence[Any],
    formats: Mapping[str, LayerFormat],
    config: QuantConfig,
    forward: Forward,
    progress: Progress,
) -> dict[str, _Probe]:
    """Build every layer's probe, on its input over all batches: half of the progress."""
    config = replace(config, weight_bits=PROBE_BITS, activation_bits=PROBE_BITS, rounding="nearest")
    probes: dict[str, _Probe] = {}

    def found(name: str, layer: Layer, x: Tensor) -> None:
        progress(_THOUSAND * len(probes) // (2 * len(formats)), _THOUSAND)
        with without_autocast(x.device):
            probes[name] = _probe(LayerSearch(layer, formats[name], statistics[name], x, config), config)

    with released_memory():
        join_inputs(model, layers, batches, forward, found)
    return probes


def _probe(layer: LayerSearch, config: QuantConfig) -> _Probe:
    balance, chosen = search([layer], config)
    low, _ = layer.build(balance, chosen)
    clips = CLIPS if config.clipping else (1.0,)
    # A share that suits narrow widths may clip values that wider ones could keep.
    shares = (None,) if chosen.zero_point_share is None else (chosen.zero_point_share, 0.5)
    ranges = [ActivationRange(clip, share) for clip in clips for share in shares]
    return _Probe(low, *layer.width_errors(balance, ranges))


def _sensitivity(name: str, layer: Layer, fmt: LayerFormat, probe: _Probe, macs: int, judge: Judge) -> LayerSensitivity:
    """Weigh a layer's own errors by what its probe does to the model's output."""
    error, loss = judge.with_layer(name, probe.low)
    if not math.isfinite(error + loss):
        raise UsageError(f"the output is not finite with {name} alone at {PROBE_BITS} bits: exclude it, or use float32")
    weights, activations = probe.weight_errors, probe.activation_errors
    whole = max(weights[fmt.weight_bits] + activations[fmt.activation_bits], 1e-20)
    return LayerSensitivity(
        macs=macs,
        parameters=layer.weight.numel(),
        overhead=overhead(layer, fmt),
        fixed=None if fmt.weight_bits == PROBE_BITS else fmt.weight_bits,
        weight={bits: weights[bits] / whole for bits in BITS},
        activation={bits: activations[bits] / whole for bits in BITS},
        error=error,
        perceptual=loss,
    )
