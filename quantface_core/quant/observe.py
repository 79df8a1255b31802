"""Observe: what the channels of every layer's input carry, over some batches (DESIGN.md section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..errors import UsageError
from ..nn.graphs import without_graphs
from ..nn.swap import Layer, quantizable
from ..runtime.memory import kept_memory
from .batches import Forward, Progress, call, eval_mode, materialize
from .fisher import output_fisher

_MOMENTUM = 0.9
_IMAGES = 4  # dimensions of what a convolution reads: one without a batch has no image scale


@dataclass(frozen=True)
class ChannelStatistics:
    """Of one layer."""

    largest: Tensor  # [C] float32, momentum average over batches of its input's largest magnitude
    fisher: Tensor | None = None  # of its output's channels, see `fisher.py`; None = not measured, or no gradient came


@kept_memory()
def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    forward: Forward | None = None,
    progress: Progress | None = None,
    fisher_batches: int = 0,
) -> dict[str, ChannelStatistics]:
    """Run the model over batches, and back over the first `fisher_batches`; statistics of its quantizable layers by
    name, in the model's order.

    Layers that never ran are absent. Raises UsageError when there is no batch, a layer read NaN or infinity, or a
    model that should be differentiated cannot be.
    """
    batches = materialize(batches)
    layers = quantizable(model)
    largest: dict[str, Tensor] = {}

    def watched(model: nn.Module, batch: Any) -> Any:
        tops: dict[str, Tensor] = {}

        def watch(name: str, layer: Layer, x: Tensor) -> None:
            top = channel_magnitudes(layer, x.detach()).float()
            tops[name] = torch.maximum(tops[name], top) if name in tops else top

        # Not in the backward pass: checkpointed blocks run their layers again there.
        with _observing(layers, watch):
            output = (forward or call)(model, tree_map(_detached, batch))
        for name, top in tops.items():
            largest[name] = largest[name].lerp(top, 1 - _MOMENTUM) if name in largest else top
        return output

    def differentiating(done: int, _: int) -> None:
        if progress:
            progress(done, len(batches))

    fisher = output_fisher(model, batches[:fisher_batches], layers, watched, differentiating)
    with eval_mode(model), torch.no_grad():
        for i, batch in enumerate(batches[fisher_batches:], fisher_batches):
            if progress:
                progress(i, len(batches))
            watched(model, batch)
    broken = [name for name, values in largest.items() if not torch.isfinite(values).all()]
    if broken:
        raise UsageError(f"{broken[0]} read NaN or infinite values: calibrate in float32, on finite batches")
    return {name: ChannelStatistics(largest[name], fisher.get(name)) for name in layers if name in largest}


def _detached(value: Any) -> Any:
    """Part of a batch, taking no gradient: it is the caller's, and may be made by a graph of the caller's."""
    return value.detach() if isinstance(value, Tensor) and value.requires_grad else value


def channel_magnitudes(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer's input's largest magnitudes, [C]; no copy is made of it."""
    channels = 1 if isinstance(layer, nn.Conv2d) else x.ndim - 1
    others = [dim for dim in range(x.ndim) if dim != channels]
    return torch.maximum(x.amax(others), -x.amin(others)) if others else x.abs()


@contextmanager
def observe_inputs(layers: Mapping[str, Layer], observed: Callable[[str, Layer, Tensor], None]) -> Iterator[None]:
    """While it lasts, `observed(name, layer, input)` runs before every layer, without gradients.

    Inputs that no low-bit layer could read are passed over: empty ones, and a convolution's without a batch.
    """

    with torch.no_grad(), _observing(layers, observed):
        yield


@contextmanager
def _observing(layers: Mapping[str, Layer], observed: Callable[[str, Layer, Tensor], None]) -> Iterator[None]:
    """As `observe_inputs`, with gradients where there are any."""

    def hook(name: str) -> Callable[[Any, tuple[Any, ...]], None]:
        def before(layer: Any, given: tuple[Any, ...]) -> None:
            x = given[0] if given else None
            readable = isinstance(x, Tensor) and x.numel() > 0
            if readable and not (isinstance(layer, nn.Conv2d) and x.ndim != _IMAGES):  # type: ignore[union-attr]
                observed(name, layer, x)  # type: ignore[arg-type]

        return before

    hooks = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        with without_graphs():  # they call no hooks
            yield
    finally:
        for handle in hooks:
            handle.remove()
