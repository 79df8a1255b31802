"""Cache the output of layers whose input is constant, such as the time embedding: saves 130 GPU kernel launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .qlayer import QuantLayer


@dataclass(frozen=True, eq=False)
class CachedResult:
    """A result, and what it was computed from."""

    result: Tensor  # [1, ...]
    form: tuple[Any, ...]  # the input's shape without the batch, its dtype and device
    layers: Sequence[nn.Module]
    weights: list[Any]  # what changes with the layers' weights: see `_weights`

    def is_current(self) -> bool:
        """Whether the layers' weights are unchanged."""
        return _same(self.weights, _weights(self.layers))


class ConstantCache:
    """Keeps a result while the weights that it was computed with and the shape of an input row stay the same.

    One row stands for a batch of any size: a captured graph reads the cached result, whatever runs in between. Not
    used on CPUs, where launching work is cheap, nor where gradients are enabled. A copy starts empty.
    """

    def __init__(self) -> None:
        self.cached: CachedResult | None = None

    def __call__(self, x: Tensor, layers: Sequence[nn.Module], compute: Callable[[Tensor], Tensor]) -> Tensor:
        """compute(x) for x [B, ...] whose rows are all equal, at every call; it may depend on the layers' weights too.

        [1, ...] where it is cached, else [B, ...].
        """
        if torch.is_grad_enabled() or x.device.type == "cpu":
            return compute(x)
        form = (x.shape[1:], x.dtype, x.device)
        cached = self.cached  # another thread may replace it meanwhile
        if not (cached and cached.form == form and _same(cached.layers, layers) and cached.is_current()):
            cached = self.cached = CachedResult(compute(x[:1]), form, layers, _weights(layers))
        return cached.result

    def __reduce__(self) -> tuple[Any, ...]:
        return ConstantCache, ()


def constant_caches(model: nn.Module) -> list[ConstantCache]:
    """All constant caches of a model's modules."""
    return [value for module in model.modules() for value in vars(module).values() if isinstance(value, ConstantCache)]


def _weights(layers: Sequence[nn.Module]) -> list[Any]:
    """Objects and version numbers, at least one of which differs once a layer's weights have changed."""
    return [value for layer in layers for value in _weights_of(layer)]


def _weights_of(layer: nn.Module) -> list[Any]:
    if isinstance(layer, QuantLayer):
        return [layer.kernel()]
    weights = list(layer.parameters())
    return [*weights, *(0 if weight.is_inference() else weight._version for weight in weights)]


def _same(old: Sequence[Any], new: Sequence[Any]) -> bool:
    return len(old) == len(new) and all(
        a is b or (isinstance(a, int) and isinstance(b, int) and a == b) for a, b in zip(old, new, strict=True)
    )
