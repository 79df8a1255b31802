"""A small test of every kernel, before anybody relies on them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import reference
from ..bitpack import packed_size
from ..weight import LowBitWeight
from .conv2d import Conv2d
from .linear import Linear
from .norm import group_norm

_BITS, _CHANNELS, _OUTPUTS = 4, 64, 32


def agrees(device: torch.device) -> bool:
    """Whether a linear, a convolution and a norm give what torch does. Raises what Triton or the driver raise."""
    maps = torch.linspace(-3, 3, _CHANNELS * 20, device=device).sin().view(1, 5, 4, _CHANNELS).permute(0, 3, 1, 2)
    rows, ones = maps.permute(0, 2, 3, 1).reshape(-1, _CHANNELS), torch.ones(_CHANNELS, device=device)
    linear, square = _weight((_OUTPUTS, _CHANNELS), device), _weight((_OUTPUTS, _CHANNELS, 3, 3), device)
    sides = ((1, 1), (1, 1))
    pairs: list[tuple[Tensor, Tensor]] = [
        (Linear(linear, _BITS, 0.9)(rows), reference.Linear(linear, _BITS, 0.9)(rows)),
        (Conv2d(square, _BITS, 0.9, *sides)(maps), reference.Conv2d(square, _BITS, 0.9, *sides)(maps)),
        (group_norm(maps, 8, ones, ones, 1e-5), F.group_norm(maps, 8, ones, ones, 1e-5)),
    ]
    return all(torch.allclose(ours, theirs, 1e-4, 1e-4) for ours, theirs in pairs)


def _weight(shape: tuple[int, ...], device: torch.device) -> LowBitWeight:
    size = packed_size(torch.Size(shape).numel(), _BITS)
    packed = (torch.arange(size, device=device) * 37 % 256).to(torch.uint8)
    return LowBitWeight(packed, torch.ones(shape[0], device=device), _BITS, shape)
