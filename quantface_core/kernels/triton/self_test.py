"""The self-test: a small run of every kernel, before anything relies on them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import chain
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import reference
from ..backend import ActivationFormat, Conv2dSpec, LinearSpec
from ..channel_transform import ChannelTransform
from ..fusion import Conv2dFusion, LinearFusion, TokenNorm
from ..hadamard import Rotation
from ..weight import self_test_weight
from . import launch
from .conv2d import Conv2d
from .linear import Linear
from .norm import group_norm, norm_factors
from .product import conv2d_product, linear_product

_CHANNELS, _OUTPUTS = 128, 136  # of the largest tile's product: at least two, the last of them not full
_UNEVEN = 160  # channels of a product in parts, whose steps they do not fill
_RANK, _BLOCK, _EPS = 16, 64, 1e-5
_BRANCH = 32.0  # divides the branch: it is then a noticeable part of the result
_SIDES = (1, 1), (1, 1)
_ACTIVATIONS = ActivationFormat(4, 0.9)
_CLOSE = 0.05  # of a result's size: another order of sums changes some codes in bfloat16
_COMPILED = 1.0  # seconds that the first kernels take only where they have to be compiled

Pairs = Iterator[tuple[Tensor, Tensor]]


def agrees(device: torch.device) -> bool:
    """Whether this backend's results match torch's on a device. Raises what Triton or the driver raises.

    Warns where kernels have to be compiled, which nothing shows otherwise.
    """
    began = perf_counter()
    if not all(_equal(*pair) for pair in _norms(device)):
        return False
    if device.type == "cuda" and perf_counter() - began > _COMPILED:
        warnings.warn("Triton compiles its kernels for this GPU, once: the first face takes minutes", stacklevel=2)
    exact = chain(_layers(device), _tiles(device), _parts(device))
    return all(_equal(*pair) for pair in exact) and all(_near(*pair) for pair in _fused(device))


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours.float(), theirs.float(), 1e-4, 1e-4)


def _near(ours: Tensor, theirs: Tensor) -> bool:
    return float((ours.float() - theirs.float()).norm()) <= _CLOSE * float(theirs.float().norm())


def _dtypes(device: torch.device) -> list[torch.dtype]:
    """The dtypes to run; the CPU is the interpreter, which truncates to bfloat16 where a GPU rounds."""
    return [torch.float32] if device.type == "cpu" else [torch.float32, torch.bfloat16]


def _maps(device: torch.device) -> Tensor:
    """[1, C, 8, 4] float32, channels last."""
    return _waves(1, 8, 4, _CHANNELS, device=device).permute(0, 3, 1, 2)


def _waves(*shape: int, device: torch.device) -> Tensor:
    count = torch.Size(shape).numel()
    return torch.arange(count, dtype=torch.float32, device=device).mul(0.37).sin().view(shape)


def _norms(device: torch.device) -> Pairs:
    maps, ones = _maps(device), torch.ones(_CHANNELS, dtype=torch.float32, device=device)
    yield group_norm(maps, 8, ones, ones, _EPS), F.group_norm(maps, 8, ones, ones, _EPS)


def _layers(device: torch.device) -> Pairs:
    """(ours, expected) of plain linears and convolutions, at every width with its own packing, in both dtypes."""
    dtypes = _dtypes(device)
    for bits, dtype in [(4, dtypes[0]), *((bits, dtypes[-1]) for bits in (3, 4, 6))]:
        x = _maps(device).to(dtype)
        rows = _rows(x)
        activations = ActivationFormat(bits, 0.9)
        linear = LinearSpec(self_test_weight((24, _CHANNELS), bits, device), activations)
        yield Linear(linear)(rows), reference.Linear(linear)(rows)
        square = Conv2dSpec(self_test_weight((24, _CHANNELS, 3, 3), bits, device), activations, padding=(1, 1))
        ours, theirs = Conv2d(square), reference.Conv2d(square)
        yield ours(x), theirs(x)
        yield ours.forward_upsampled(x), theirs.forward_upsampled(x)


def _tiles(device: torch.device) -> Pairs:
    """(ours, expected) of integer products with every tile of convolutions: small layers use the smallest only.

    Of linears, whose products are the same loop, with the largest tile.
    """
    ones = torch.ones(_OUTPUTS, dtype=torch.float32, device=device)
    x = _codes(150 * _CHANNELS, device)
    rows, maps = x.view(150, _CHANNELS), x.view(1, 15, 10, _CHANNELS)
    linear, square = (
        self_test_weight(shape, 4, device).codes() for shape in ((_OUTPUTS, _CHANNELS), (_OUTPUTS, _CHANNELS, 3, 3))
    )
    tiles = launch.tiles_for(_OUTPUTS, _CHANNELS)
    sums = reference.linear_sums(rows, linear, 4, 4)
    yield linear_product(rows, linear, ones, ones[:1].expand(150, 1).contiguous(), None, tile=tiles[0]), sums
    sums = reference.conv2d_sums(maps.permute(0, 3, 1, 2), square, 4, 4, 1, 1).permute(0, 2, 3, 1)
    taps_first = square.permute(0, 2, 3, 1).contiguous()
    for tile in tiles:
        y = ones.new_empty(1, 15, 10, _OUTPUTS)
        conv2d_product(maps, taps_first, ones, ones[:1], None, *_SIDES, y, tile=tile)
        yield y, sums


def _parts(device: torch.device) -> Pairs:
    """(ours, expected) of a product that every GPU splits: one program's, of many steps."""
    maps = _codes(16 * _UNEVEN, device).view(1, 4, 4, _UNEVEN)
    weight = self_test_weight((16, _UNEVEN, 3, 3), 4, device).codes()
    ones, y = torch.ones(16, dtype=torch.float32, device=device), maps.new_empty(1, 4, 4, 16, dtype=torch.float32)
    conv2d_product(maps, weight.permute(0, 2, 3, 1).contiguous(), ones, ones[:1], None, *_SIDES, y)
    yield y, reference.conv2d_sums(maps.permute(0, 3, 1, 2), weight, 4, 4, 1, 1).permute(0, 2, 3, 1)


def _codes(count: int, device: torch.device) -> Tensor:
    return (torch.arange(count, device=device) * 37 % 15 - 7).to(torch.int8)


def _fused(device: torch.device) -> Pairs:
    """(ours, expected) of a linear and a convolution with all that kernels fuse, and of a norm from channel sums."""
    dtype = _dtypes(device)[-1]
    x, ones = _maps(device).to(dtype), torch.ones(_CHANNELS, dtype=dtype, device=device)
    skip, up = x.flip(1), _waves(_CHANNELS, _RANK, device=device).to(dtype)
    transform = ChannelTransform(ones / 2, Rotation(_CHANNELS, _BLOCK, 0))
    yield _fused_linear(_rows(x), ones, _rows(skip), up, transform)
    found, expected = _fused_conv2d(x, ones, skip, up, transform)
    yield found, expected
    yield group_norm(found, 8, ones, ones, _EPS), F.group_norm(expected, 8, ones, ones, _EPS)


def _fused_linear(
    x: Tensor, ones: Tensor, skip: Tensor, up: Tensor, transform: ChannelTransform
) -> tuple[Tensor, Tensor]:
    spec = LinearSpec(self_test_weight((_CHANNELS, _CHANNELS), 4, x.device), _ACTIVATIONS, transform=transform)
    down = _waves(_RANK, _CHANNELS, device=x.device).div(_BRANCH).to(x.dtype)
    ours = Linear(spec)
    ours.take_branch(lambda: (down, up))
    (found,) = ours.fused(x, LinearFusion(TokenNorm(ones, ones, _EPS), skip=skip))
    normed = F.layer_norm(x, (_CHANNELS,), ones, ones, _EPS)
    return found, reference.Linear(spec)(normed) + transform(normed) @ down.t() @ up.t() + skip


def _fused_conv2d(
    x: Tensor, ones: Tensor, skip: Tensor, up: Tensor, transform: ChannelTransform
) -> tuple[Tensor, Tensor]:
    weight = self_test_weight((_CHANNELS, _CHANNELS, 3, 3), 4, x.device)
    spec = Conv2dSpec(weight, _ACTIVATIONS, transform=transform, padding=(1, 1))
    down = _waves(_RANK, _CHANNELS, 3, 3, device=x.device).div(_BRANCH).to(x.dtype)
    ours = Conv2d(spec)
    ours.take_branch(lambda: (down, up))
    factors = norm_factors(x, 8, ones, ones, _EPS)
    found = ours.fused(x, Conv2dFusion(factors, True, ones[None], skip, sums=True))
    normed = F.silu(F.group_norm(x, 8, ones, ones, _EPS))
    balanced = transform(normed.movedim(1, -1)).movedim(-1, 1)
    branch = F.conv2d(F.conv2d(balanced, down, None, 1, 1), up[:, :, None, None])
    return found, reference.Conv2d(spec)(normed) + branch + 1 + skip


def _rows(maps: Tensor) -> Tensor:
    """[1, C, H, W] -> [H W, C]."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
