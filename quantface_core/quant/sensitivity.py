"""Sensitivity: what each layer's width does to a model's output (DESIGN.md section 3.4).

Every layer alone is put in at a probe width and the output's error measured; how that error grows and shrinks with
the width follows from the layer's own output error at every width, weights and activations apart, which costs a
product each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..nn.qlayer import QuantLayer
from ..nn.replace import replace_by_name
from ..nn.swap import Layer, quantizable
from ..runtime.memory import kept_memory, released_memory
from ..types import BITS, FLOAT_BRANCH, LayerFormat, LayerSensitivity, QuantConfig, Sensitivity
from .batches import Forward, Progress, call, eval_mode, materialize, relative_error, tensors_of
from .formats import state_beside
from .input_sample import output_sides
from .layer_search import ActivationRange, LayerSearch
from .observe import ChannelStatistics, observe_inputs
from .search import CLIPS, search

PROBE_BITS = 4  # bits of weights and activations at which the output's error is measured
_THOUSAND = 1000  # parts that progress is told in
_LAYER_BYTES = 4  # of a scale or a bias


class Judge(Protocol):
    """Compares a model of which one layer is replaced with the model itself."""

    metric: str  # of the perceptual loss; empty = none

    def with_layer(self, name: str, layer: QuantLayer) -> tuple[float, float]:
        """(the output's squared error over its variance, perceptual loss) with one layer replaced."""

    def share(self, done: Sequence[str], names: Sequence[str]) -> float:
        """How much of the time for `names` is behind once `done` are, 0 to 1."""


@contextmanager
def replaced_layer(model: nn.Module, name: str, layer: QuantLayer) -> Iterator[None]:
    """While it lasts, one layer of the model is another."""
    before = model.get_submodule(name)
    replace_by_name(model, {name: layer})
    try:
        yield
    finally:
        replace_by_name(model, {name: before})
        layer.release()  # prepacked for one use: a large model's would not fit together


class OutputJudge:
    """Judges by everything that the model gives for some batches; there is no perceptual loss."""

    metric = ""

    def __init__(self, model: nn.Module, batches: Sequence[Any], forward: Forward) -> None:
        self._model, self._batches, self._forward = model, batches, forward
        self._exact = [output for batch in batches for output in self._outputs(batch)]
        if not self._exact:
            raise UsageError("the model's output holds no floating-point tensor: give a `forward` that returns one")

    def _outputs(self, batch: Any) -> list[Tensor]:
        with eval_mode(self._model):
            return [t.detach().float().clone() for t in tensors_of(self._forward(self._model, batch))]

    def with_layer(self, name: str, layer: QuantLayer) -> tuple[float, float]:
        with replaced_layer(self._model, name, layer):
            made = [output for batch in self._batches for output in self._outputs(batch)]
        return float(relative_error(made, self._exact)), 0.0

    def share(self, done: Sequence[str], names: Sequence[str]) -> float:
        return len(done) / len(names)


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
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure the layers that have a format and statistics; the model stays as it is.

    A format of another weight width than `PROBE_BITS` is one that no plan changes. `name` is the model's, its class's
    where none is given; `dtype` is that of the other floats in its file, None = as they are. `progress` counts
    thousandths of the expected time. Raises UsageError.
    """
    batches = materialize(batches)
    config = replace(config, weight_bits=PROBE_BITS, activation_bits=PROBE_BITS, rounding="nearest")
    formats = {n: fmt for n, fmt in formats.items() if n in statistics}
    if not formats:
        raise UsageError("nothing to measure: no chosen layer was reached by a batch")
    layers = quantizable(model)
    probes: dict[str, QuantLayer] = {}
    widths: dict[str, tuple[dict[int, float], dict[int, float]]] = {}
    macs: dict[str, int] = {}

    def observed(name: str, layer: Layer, x: Tensor) -> None:
        if name in probes:
            return
        if progress:
            progress(_THOUSAND * len(probes) // (2 * len(formats)), _THOUSAND)
        one = LayerSearch(layer, formats[name], statistics[name], x, config)
        balance, within = search([one], config)
        probes[name] = one.build(balance, within)
        clips = CLIPS if config.clipping else (1.0,)
        # A share that suits few bits may cut values off that more bits could keep.
        shares = (within.below,) if within.below is None else (within.below, 0.5)
        ranges = [ActivationRange(clip, below) for clip in clips for below in shares]
        widths[name] = one.width_errors(balance, ranges)
        macs[name] = _macs(layer, x)

    with released_memory(), observe_inputs({n: layers[n] for n in formats}, observed), eval_mode(model):
        for batch in batches:
            if len(probes) < len(formats):
                (forward or call)(model, batch)
    judge = judge or OutputJudge(model, batches, forward or call)
    measured = {}
    for count, layer_name in enumerate(formats):
        if progress:
            share = judge.share(list(formats)[:count], list(formats))
            progress(_THOUSAND // 2 + int(share * _THOUSAND) // 2, _THOUSAND)
        layer, fmt = layers[layer_name], formats[layer_name]
        error, loss = judge.with_layer(layer_name, probes[layer_name])
        if not math.isfinite(error + loss):
            raise UsageError(
                f"the output is not finite with {layer_name} alone at {PROBE_BITS} bits: exclude it, or use float32"
            )
        weights, activations = widths[layer_name]
        whole = max(weights[fmt.weight_bits] + activations[fmt.activation_bits], 1e-20)
        measured[layer_name] = LayerSensitivity(
            macs=macs[layer_name],
            parameters=layer.weight.numel(),
            overhead=_overhead(layer, fmt),
            fixed=None if fmt.weight_bits == PROBE_BITS else fmt.weight_bits,
            weight={bits: weights[bits] / whole for bits in BITS},
            activation={bits: activations[bits] / whole for bits in BITS},
            error=error,
            perceptual=loss,
        )
    if progress:
        progress(_THOUSAND, _THOUSAND)
    rest = _stored_bytes(state_beside(model, {layers[n] for n in formats}).values(), dtype)
    return Sensitivity(name or type(model).__name__, judge.metric, rest, measured)


def _stored_bytes(tensors: Iterable[Any], dtype: torch.dtype | None) -> int:
    """Bytes of tensors in a file whose floats are of a dtype, None = their own; it holds nothing but tensors."""
    kept = [t for t in tensors if isinstance(t, Tensor)]
    return sum(t.numel() * (dtype or t.dtype if t.is_floating_point() else t.dtype).itemsize for t in kept)


def _macs(layer: Layer, x: Tensor) -> int:
    """Multiply-accumulates an image; of one that comes without a batch, as a vector, those of one token."""
    if isinstance(layer, nn.Linear):
        return max(1, x[0].numel() // x.shape[-1]) * layer.weight.numel()
    height, width = output_sides(layer, x)
    return height * width * layer.weight.numel()


def _bias(layer: Layer) -> int:
    return 0 if layer.bias is None else layer.bias.numel()


def _overhead(layer: Layer, fmt: LayerFormat) -> int:
    """Bytes a stored layer takes beside its integers: scales, bias, branch."""
    outputs, channels = layer.weight.shape[:2]
    branch = fmt.branch_bits // 8 * fmt.rank * (outputs + layer.weight[0].numel())
    if fmt.rank and fmt.branch_bits != FLOAT_BRANCH:
        branch += _LAYER_BYTES * (outputs + fmt.rank)
    return _LAYER_BYTES * (outputs + channels + _bias(layer)) + branch
