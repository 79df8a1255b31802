"""Layers' inputs over all batches, for the searches; memory is bounded, so the model may run several times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.modes import eval_mode
from ..nn.swap import Layer
from .batches import Forward
from .input_sample import ROWS, choose
from .observe import observe_inputs

_HELD = 1 << 28  # values of layers' inputs held at once, at most: 1 GB in float32


@torch.no_grad()
def join_inputs(
    model: nn.Module,
    layers: Mapping[str, Layer],
    batches: Sequence[Any],
    forward: Forward,
    found: Callable[[str, Layer, Tensor], None],
) -> None:
    """Call `found(name, layer, x)` once for each layer that a batch reaches; x: [N, C] or [B, C, H, W].

    x joins the layer's first input in each batch: a seeded choice of a linear's tokens, all of a convolution's images
    of the first one's size, from as many batches as fit into memory. With one batch it is that input itself, while the
    model runs, and nothing is copied.
    """
    waiting = dict(layers)

    def observed(name: str, layer: Layer, x: Tensor) -> None:
        if name in waiting:
            found(name, waiting.pop(name), x)

    if len(batches) == 1:
        with observe_inputs(layers, observed), eval_mode(model):
            forward(model, batches[0])
        return
    while waiting and (held := _held(model, waiting, batches, forward)):
        for name in list(held):
            found(name, waiting.pop(name), torch.cat(held.pop(name)))


def _held(
    model: nn.Module, layers: Mapping[str, Layer], batches: Sequence[Any], forward: Forward
) -> dict[str, list[Tensor]]:
    """The inputs, by batch, of as many layers as fit into memory at once; empty where no batch reaches any."""
    held: dict[str, list[Tensor]] = {}
    room: dict[str, int] = {}  # values that a layer may hold; 0 = none are left for it in this run
    seen: set[str] = set()  # in the current batch

    def observed(name: str, layer: Layer, x: Tensor) -> None:
        if name in seen:
            return
        seen.add(name)
        part = x if isinstance(layer, nn.Conv2d) else _some_tokens(x, max(1, ROWS // len(batches)))
        if name not in room:
            wanted = min(part.numel() * len(batches), _HELD)
            room[name] = wanted if wanted <= _HELD - sum(room.values()) else 0
        if not room[name]:
            return
        parts = held.setdefault(name, [])
        fits = sum(p.numel() for p in parts) + part.numel() <= room[name]
        if not parts or (fits and part.shape[1:] == parts[0].shape[1:]):
            parts.append(part.clone())  # the model may modify it in place

    with observe_inputs(layers, observed), eval_mode(model):
        for batch in batches:
            seen.clear()
            forward(model, batch)
    return held


def _some_tokens(x: Tensor, count: int) -> Tensor:
    """A seeded choice of at most `count` tokens of [..., C]: [N, C]."""
    tokens = x.reshape(-1, x.shape[-1])
    return tokens[choose(len(tokens), count, 0).to(x.device)]
