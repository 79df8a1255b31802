"""The self-test: a small run of every kernel, before anything relies on them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import reference
from ..backend import ActivationFormat, Conv2dSpec, LinearSpec
from ..weight import self_test_weight
from . import launch
from .conv2d import Conv2d
from .linear import Linear
from .norm import group_norm
from .product import conv2d_product, linear_product

_CHANNELS, _OUTPUTS = 128, 136  # at least two tiles, the last of them not full
_SIDES = (1, 1), (1, 1)


def agrees(device: torch.device) -> bool:
    """Whether this backend's results match torch's on a device. Raises what Triton or the driver raises."""
    return all(torch.allclose(a.float(), b.float(), 1e-4, 1e-4) for a, b in (*_layers(device), *_tiles(device)))


def _layers(device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """(ours, expected) of a norm, linears and convolutions, at every width with its own packing, in both dtypes."""
    waves = torch.linspace(-3, 3, _CHANNELS * 20, dtype=torch.float32, device=device).sin()
    maps = waves.view(1, 5, 4, _CHANNELS).permute(0, 3, 1, 2)
    ones = torch.ones(_CHANNELS, dtype=torch.float32, device=device)
    yield group_norm(maps, 8, ones, ones, 1e-5), F.group_norm(maps, 8, ones, ones, 1e-5)
    dtypes = [torch.float32] if device.type == "cpu" else [torch.float32, torch.bfloat16]  # the interpreter's
    for bits, dtype in [(4, dtypes[0]), *((bits, dtypes[-1]) for bits in (3, 4, 6))]:
        x = maps.to(dtype)
        rows = x.permute(0, 2, 3, 1).reshape(-1, _CHANNELS)
        activations = ActivationFormat(bits, 0.9)
        linear = LinearSpec(self_test_weight((24, _CHANNELS), bits, device), activations)
        yield Linear(linear)(rows), reference.Linear(linear)(rows)
        square = Conv2dSpec(self_test_weight((24, _CHANNELS, 3, 3), bits, device), activations, padding=(1, 1))
        ours, theirs = Conv2d(square), reference.Conv2d(square)
        yield ours(x), theirs(x)
        yield ours.forward_upsampled(x), theirs.forward_upsampled(x)


def _tiles(device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """(ours, expected) of integer products with every tile: small layers use the smallest only."""
    ones = torch.ones(_OUTPUTS, dtype=torch.float32, device=device)
    x = (torch.arange(150 * _CHANNELS, device=device) * 37 % 15 - 7).to(torch.int8)
    rows, maps = x.view(150, _CHANNELS), x.view(1, 15, 10, _CHANNELS)
    linear, square = (
        self_test_weight(shape, 4, device).codes() for shape in ((_OUTPUTS, _CHANNELS), (_OUTPUTS, _CHANNELS, 3, 3))
    )
    sums = reference.linear_sums(rows, linear, 4, 4)
    map_sums = reference.conv2d_sums(maps.permute(0, 3, 1, 2), square, 4, 4, 1, 1).permute(0, 2, 3, 1)
    for tile in launch.tiles_for(_OUTPUTS, _CHANNELS):
        yield linear_product(rows, linear, ones, ones[:1].expand(150, 1).contiguous(), None, tile=tile), sums
        y = ones.new_empty(1, 15, 10, _OUTPUTS)
        taps_first = square.permute(0, 2, 3, 1).contiguous()
        conv2d_product(maps, taps_first, ones, ones[:1], None, *_SIDES, y, tile=tile)
        yield y, map_sums
