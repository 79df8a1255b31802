"""The factors between a low-bit layer's outputs and its original's: it may have absorbed a balance (`nn/fold.py`)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.channel_transform import ChannelTransform
from ..nn.qlayer import QuantLayer
from ..nn.swap import Layer
from ..runtime.autocast import without_autocast

_ROUNDS = 10  # alternating over rows and columns; more would not reduce the errors that rounding leaves
_ALIKE = 0.1  # distance from 1 that rounding alone may cause
_LEAST = 2.0**-12  # smallest factor that can be known; smaller rows have been rounded away


@torch.no_grad()
def fold_factors(low: QuantLayer, layer: Layer) -> Tensor:
    """The factors [O] float32, none of them zero, up to a common one; exactly 1 where no balance was absorbed.

    Fitted by least squares: `low`'s weight is its original's times a factor per output and, where the producer of its
    input has absorbed its balance, one per channel.
    """
    with without_autocast(layer.weight.device):
        return _fitted(low, layer)


def _fitted(low: QuantLayer, layer: Layer) -> Tensor:
    made = low.effective_weight()
    made = made.flatten(2) if made.ndim > 2 else made[..., None]
    exact = layer.weight.detach().to(made).reshape(made.shape)
    products, squares = (made * exact).sum(-1), exact.square().sum(-1)
    channels = torch.ones_like(products[0])
    factors = _ratio(products @ channels, squares @ channels)
    if ChannelTransform(low.channel_scale, low.rotation).folded:
        channels = products[squares.sum(1).argmax()].sign()  # a row has all channels' signs, or all of them flipped
        for _ in range(_ROUNDS):
            factors = _ratio(products @ channels, squares @ channels.square())
            channels = _ratio(factors @ products, factors.square() @ squares)
        factors = factors / factors.abs().median().clamp_min(torch.finfo(factors.dtype).tiny)
    known = (factors.abs() > _LEAST) & ((factors - 1).abs() > _ALIKE)
    return torch.where(known, factors, 1.0)


def _ratio(products: Tensor, squares: Tensor) -> Tensor:
    return torch.where(squares > 0, products / squares, 1.0)
