"""Norms, activations and additions around low-bit layers: in the layers' own passes where their backend can.

Elsewhere, and where gradients are wanted, step by step as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..kernels import triton
from ..kernels.around import AroundMap, AroundTokens, FusedConv2d, FusedLinear, TokenNorm
from .channels_last_norm import ChannelsLastGroupNorm
from .qconv2d import QuantConv2d
from .qlinear import QuantLinear, project

__all__ = ["add", "after_norm", "fuses", "normed_tokens", "plus", "tokens_plus"]


def fuses(layer: nn.Module | None) -> bool:
    """Whether a layer computes what is around it."""
    if torch.is_grad_enabled() or not isinstance(layer, QuantConv2d | QuantLinear):
        return False
    return isinstance(layer.kernel(), FusedConv2d | FusedLinear)


def after_norm(
    conv: nn.Module,
    norm: nn.Module,
    act: Callable[[Tensor], Tensor] | None,
    x: Tensor,
    row: Tensor | None = None,
    skip: Tensor | None = None,
) -> Tensor:
    """conv(act(norm(x))) + row [B or 1, O] + skip: x [B, C, H, W] -> [B, O, H', W']. `act` is SiLU or nothing.

    Additions may be made in place, in what the convolution gave, unless gradients are wanted.
    """
    if not fuses(conv) or not isinstance(norm, nn.GroupNorm):
        y = conv(activated(norm, act, x))
        y = y if row is None else add(y, row[:, :, None, None])
        return y if skip is None else add(y, skip)
    x = x.contiguous(memory_format=torch.channels_last)
    factors = triton.norm_factors(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return conv(x, AroundMap(factors, act is not None, row, skip, sums=True))


def activated(norm: nn.Module, act: Callable[[Tensor], Tensor] | None, x: Tensor) -> Tensor:
    """act(norm(x)), where it can be in one pass; `act` is SiLU or nothing."""
    if act is not None and isinstance(norm, ChannelsLastGroupNorm) and norm.is_ours(x):
        return norm.activated(x)
    return norm(x) if act is None else act(norm(x))


def add(x: Tensor, y: Tensor) -> Tensor:
    """x + y; in x, a layer's own result, unless gradients need it."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def normed_tokens(layers: Sequence[nn.Module], norm: nn.Module | None, x: Tensor) -> list[Tensor]:
    """What linear layers make of norm(x), x [..., C] -> [..., O] each; they balance and round it alike, or apart."""
    if norm is None:
        return project(layers, x)
    if not isinstance(norm, nn.LayerNorm) or not all(fuses(layer) for layer in layers):
        return project(layers, norm(x))
    return project(layers, x, AroundTokens(TokenNorm(norm.weight, norm.bias, norm.eps)))


def tokens_plus(layer: nn.Module, x: Tensor, skip: Tensor, gated: bool = False) -> Tensor:
    """layer(x) + skip, tokens [..., C], of a layer that `fuses`.

    `gated`: of the first half of x times the GELU of the second.
    """
    return project((layer,), x, AroundTokens(gated=gated, skip=skip.reshape(-1, skip.shape[-1])))[0]


def plus(conv: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    """conv(x) + skip, maps."""
    return conv(x, AroundMap(skip=skip)) if fuses(conv) else skip + conv(x)
