"""Collect calibration statistics: the magnitudes of every layer's input channels (docs/method.md, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..errors import UsageError
from ..nn.graphs import without_graphs
from ..nn.modes import eval_mode
from ..nn.swap import Layer, quantizable
from ..runtime.memory import kept_memory
from ..types import Progress, silent
from .batches import Forward, call, materialize
from .fisher import output_fisher

_MOMENTUM = 0.9
_IMAGES = 4  # dimensions of a convolution's input: an unbatched one has no per-image scale


@dataclass(frozen=True)
class ChannelStatistics:
    """Calibration statistics of one layer."""

    largest: Tensor  # [C] float32, momentum average over batches of its input's absmax per channel
    fisher: Tensor | None = None  # of its output channels, see `fisher.py`; None = not measured, or no gradient


@kept_memory()
def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    forward: Forward | None = None,
    progress: Progress = silent,
    fisher_batches: int = 0,
) -> dict[str, ChannelStatistics]:
    """Run the model over batches, and a backward pass over the first `fisher_batches`; returns the statistics of its
    quantizable layers by name, in the model's order.

    Layers that never ran are absent. Raises UsageError when there are no batches, a layer's weights or its input hold
    NaN or infinity, or gradients are needed and the model cannot be differentiated.
    """
    batches = materialize(batches)
    layers = quantizable(model)
    largest: dict[str, Tensor] = {}

    def watched(model: nn.Module, batch: Any) -> Any:
        tops: dict[str, Tensor] = {}

        def watch(name: str, layer: Layer, x: Tensor) -> None:
            if name not in tops and name not in largest:
                _check_weights(name, layer)
            top = channel_magnitudes(layer, x.detach()).float()
            tops[name] = torch.maximum(tops[name], top) if name in tops else top

        # Forward passes only: checkpointed blocks rerun their layers in the backward pass.
        with _observing(layers, watch):
            output = (forward or call)(model, tree_map(_detached, batch))
        for name, top in tops.items():
            largest[name] = largest[name].lerp(top, 1 - _MOMENTUM) if name in largest else top
        return output

    def differentiating(done: int, _: int) -> None:
        progress(done, len(batches))

    fisher = output_fisher(model, batches[:fisher_batches], layers, watched, differentiating)
    with eval_mode(model), torch.no_grad():
        for i, batch in enumerate(batches[fisher_batches:], fisher_batches):
            progress(i, len(batches))
            watched(model, batch)
    broken = [name for name, values in largest.items() if not torch.isfinite(values).all()]
    if broken:
        raise UsageError(f"{broken[0]} has NaN or infinity in its input: calibrate in float32, on finite batches")
    return {name: ChannelStatistics(largest[name], fisher.get(name)) for name in layers if name in largest}


def _check_weights(name: str, layer: Layer) -> None:
    """Raise UsageError for NaN or infinity in a layer that is about to run."""
    if not all(torch.isfinite(parameter).all() for parameter in (layer.weight, layer.bias) if parameter is not None):
        raise UsageError(f"{name} has NaN or infinity among its weights: load them again, they may be damaged")


def _detached(value: Any) -> Any:
    """Part of a batch, detached: it belongs to the caller, whose graph it may be part of."""
    return value.detach() if isinstance(value, Tensor) and value.requires_grad else value


def channel_magnitudes(layer: nn.Module, x: Tensor) -> Tensor:
    """The largest magnitude of each channel of a layer's input, [C] in its dtype; the input is not copied."""
    channels = 1 if isinstance(layer, nn.Conv2d) else x.ndim - 1
    others = [dim for dim in range(x.ndim) if dim != channels]
    return torch.maximum(x.amax(others), -x.amin(others)) if others else x.abs()


@contextmanager
def observe_inputs(layers: Mapping[str, Layer], observed: Callable[[str, Layer, Tensor], None]) -> Iterator[None]:
    """Within the block, call `observed(name, layer, input)` before every layer runs, without gradients.

    Skips inputs that no low-bit layer accepts: empty ones, and a convolution's without a batch dimension.
    """
    with torch.no_grad(), _observing(layers, observed):
        yield


@contextmanager
def _observing(layers: Mapping[str, Layer], observed: Callable[[str, Layer, Tensor], None]) -> Iterator[None]:
    """As `observe_inputs`, but gradients stay enabled if they are."""

    def hook(name: str) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None]:
        def before(layer: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            x = given[0] if given else named.get("input")
            readable = isinstance(x, Tensor) and x.numel() > 0
            if readable and not (isinstance(layer, nn.Conv2d) and x.ndim != _IMAGES):  # type: ignore[union-attr]
                observed(name, layer, x)  # type: ignore[arg-type]

        return before

    with ExitStack() as hooks, without_graphs():  # a replayed graph calls no hooks
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_pre_hook(hook(name), with_kwargs=True))
        yield
