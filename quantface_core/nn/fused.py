"""Low-bit layers with the norm, activation and additions around them, in one kernel where their backend fuses.

Elsewhere, and where gradients are enabled, they run one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..kernels import triton
from ..kernels.fusion import Conv2dFusion, LinearFusion, TokenNorm
from .channels_last_norm import ChannelsLastGroupNorm
from .qconv2d import QuantConv2d
from .qlinear import QuantLinear, project
from .qpointwise import QuantPointwiseConv2d

__all__ = ["add", "conv_add", "fuses", "linear_add", "norm_act", "norm_conv", "norm_linear"]


def fuses(layer: nn.Module | None) -> bool:
    """Whether the layer's kernel fuses the norm, activation and additions around it; never with gradients."""
    if torch.is_grad_enabled() or not isinstance(layer, QuantConv2d | QuantLinear):
        return False
    return layer.prepared().fuses


def norm_conv(
    conv: nn.Module,
    norm: nn.Module,
    act: Callable[[Tensor], Tensor] | None,
    x: Tensor,
    channel_bias: Tensor | None = None,
    skip: Tensor | None = None,
) -> Tensor:
    """conv(act(norm(x))) + channel_bias [B or 1, O] + skip: x [B, C, H, W] -> [B, O, H', W']. `act` is SiLU or None.

    Additions may be done in place, into the convolution's output, unless gradients are enabled.
    """
    fused = fuses(conv) and not isinstance(conv, QuantPointwiseConv2d)
    if not fused or not isinstance(norm, nn.GroupNorm) or not norm.affine:
        y = conv(norm_act(norm, act, x))
        y = y if channel_bias is None else add(y, channel_bias[:, :, None, None])
        return y if skip is None else add(y, skip)
    x = x.contiguous(memory_format=torch.channels_last)
    factors = triton.norm_factors(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return conv(x, Conv2dFusion(factors, act is not None, channel_bias, skip, sums=True))


def norm_act(norm: nn.Module, act: Callable[[Tensor], Tensor] | None, x: Tensor) -> Tensor:
    """act(norm(x)), in one pass where possible; `act` is SiLU or None."""
    if act is not None and isinstance(norm, ChannelsLastGroupNorm) and norm.uses_triton(x):
        return norm.forward_silu(x)
    return norm(x) if act is None else act(norm(x))


def add(x: Tensor, y: Tensor) -> Tensor:
    """x + y; in place in x, a layer's fresh output, unless gradients are enabled."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def norm_linear(layers: Sequence[nn.Module], norm: nn.Module | None, x: Tensor) -> list[Tensor]:
    """Apply linear layers to norm(x), x [..., C] -> [..., O] each, in one kernel where the backend fuses."""
    if norm is None:
        return project(layers, x)
    if not isinstance(norm, nn.LayerNorm) or norm.bias is None or not all(fuses(layer) for layer in layers):
        return project(layers, norm(x))
    return project(layers, x, LinearFusion(TokenNorm(norm.weight, norm.bias, norm.eps)))


def linear_add(layer: nn.Module, x: Tensor, skip: Tensor, gated: bool = False) -> Tensor:
    """layer(x) + skip over tokens, x [..., C] and skip [..., O] -> [..., O]; only for a layer that `fuses`.

    `gated`: x is [..., 2 C]; the layer's input is its first half times the GELU of its second.
    """
    return project((layer,), x, LinearFusion(gated=gated, skip=skip.reshape(-1, skip.shape[-1])))[0]


def conv_add(conv: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    """conv(x) + skip: x [B, C, H, W] and skip [B, O, H', W'] -> [B, O, H', W']."""
    if not fuses(conv):
        return skip + conv(x)
    if isinstance(conv, QuantPointwiseConv2d):
        return linear_add(conv, x.permute(0, 2, 3, 1), skip.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return conv(x, Conv2dFusion(skip=skip))
