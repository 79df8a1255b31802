"""Low-bit layers that stand for exact ones, and the backends to run them on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.dispatch import BACKENDS
from quantface_core.kernels.hadamard import largest_block, rotate
from quantface_core.kernels.quantize import dequantize, per_channel_scale, quantize
from quantface_core.nn.qlayer import QuantLayer
from quantface_core.nn.swap import empty_like
from quantface_core.types import LayerFormat

CPU = torch.device("cpu")
AVAILABLE = [backend for backend in BACKENDS.values() if backend.unavailable(CPU) is None]


def balanced(
    layer: nn.Linear | nn.Conv2d, rank: int, seed: int, per_pixel: bool = False, branch_bits: int = 16
) -> tuple[QuantLayer, torch.Tensor]:
    """A layer of 8-bit weights, 7-bit activations and random scales and branch, and the weight it stands for.

    Products of 8 by 8 bits are not every backend's on every processor.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = layer.weight.shape[1]
    form = LayerFormat(8, 7, block=largest_block(channels), seed=seed, rank=rank, per_pixel=per_pixel)
    form = replace(form, branch_bits=branch_bits)
    low = empty_like(layer, form)
    low.channel_scale = torch.rand(channels, generator=generator) + 0.5
    by_channel = low.channel_scale.view(1, -1, *[1] * (layer.weight.ndim - 2))
    weight = layer.weight.detach() / by_channel
    if form.block > 1:
        weight = rotate(weight, low.rotation, 1)
    if rank:
        low.set_branch(*(torch.randn(t.shape, generator=generator) / 8 for t in (low.down, low.up)))
        down, up = low.stored_branch()
        weight = weight - (up.float() @ down.float().flatten(1)).view_as(weight)
    scale = per_channel_scale(weight, 8)
    codes = quantize(weight, scale, 8)
    low.packed, low.weight_scale = pack(codes, 8), scale.flatten()
    if layer.bias is not None:
        low.bias = layer.bias.detach().clone()
    return low, dequantize(codes, scale)
