"""By what a low-bit layer's outputs are larger than its original's: it may have taken a balance over (`nn/fold.py`)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.channel_transform import ChannelTransform
from ..nn.qlayer import QuantLayer
from ..nn.swap import Layer

_ROUNDS = 10  # of rows and columns in turn; rounding leaves errors that more would not lessen
_ALIKE = 0.1  # from 1: what rounding alone may do
_LEAST = 2.0**-12  # of a factor that is known; rows of less have been rounded away


@torch.no_grad()
def output_factors(low: QuantLayer, layer: Layer) -> Tensor:
    """The factors [O] float32, none of them zero, up to one of all; exactly 1 where nothing was taken over.

    Fitted by least squares: `low`'s weight is its original's times a factor an output and, where what makes its input
    has taken its balance over, another a channel.
    """
    made = low.weight.flatten(2) if len(low.shape) > 2 else low.weight[..., None]
    exact = layer.weight.detach().to(made).reshape(made.shape)
    products, squares = (made * exact).sum(-1), exact.square().sum(-1)
    channels = torch.ones_like(products[0])
    factors = _ratio(products @ channels, squares @ channels)
    if ChannelTransform(low.channel_scale, low.rotation).folded:
        channels = products[squares.sum(1).argmax()].sign()  # a row has all signs, or all of them turned
        for _ in range(_ROUNDS):
            factors = _ratio(products @ channels, squares @ channels.square())
            channels = _ratio(factors @ products, factors.square() @ squares)
        factors = factors / factors.abs().median().clamp_min(torch.finfo(factors.dtype).tiny)
    known = (factors.abs() > _LEAST) & ((factors - 1).abs() > _ALIKE)
    return torch.where(known, factors, 1.0)


def _ratio(products: Tensor, squares: Tensor) -> Tensor:
    return torch.where(squares > 0, products / squares, 1.0)
