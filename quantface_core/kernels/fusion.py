"""Ops before and after a low-bit layer (norm, activation, bias, skip) that a backend may fuse into its kernels.

Norm and activation before a layer, additions after it: run separately, each reads and writes a whole feature map,
which on a GPU takes as long as the products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

_SUMS = "_quantface_channel_sums"

StoredBranch = Callable[[], tuple[Tensor, Tensor]]
"""Returns a layer's low-rank pair, down [r, C, *kernel] and up [O, r] float16, dequantized if stored as int8."""


def get_channel_sums(x: Tensor) -> Tensor | None:
    """Per-channel sums that a convolution attached to its output for the next group norm; None = none attached.

    For a map [B, O, H, W] they are [B, parts, 2, O] float32: sums and sums of squares, which add up over the parts.
    They belong to the tensor, not its memory: a view or a copy has none. A map with sums must not be changed in place.
    """
    return getattr(x, _SUMS, None)


def attach_channel_sums(x: Tensor, sums: Tensor | None) -> None:
    """Attach channel sums to a map, None = do nothing: see `get_channel_sums`."""
    if sums is not None:
        setattr(x, _SUMS, sums)


@dataclass(frozen=True)
class Conv2dFusion:
    """y = conv(silu(factor * x + shift)) + channel_bias + skip, rounded after every step as by separate layers."""

    factors: Tensor | None = None  # [B, 2, C] float32: a norm's factor and shift for each channel
    silu: bool = False
    channel_bias: Tensor | None = None  # [B, O] or [1, O], added to every pixel
    skip: Tensor | None = None  # [B, O, H', W'], added last
    sums: bool = False  # whether to attach channel sums to the result, where the kernel can compute them


@dataclass(frozen=True)
class TokenNorm:
    """A layer norm: `torch.nn.functional.layer_norm` over the last dimension."""

    weight: Tensor
    bias: Tensor
    eps: float


@dataclass(frozen=True)
class LinearFusion:
    """y = linear(norm(x)) + skip; `gated`: of x [N, 2 K], the first half times the GELU of the second replaces x."""

    norm: TokenNorm | None = None
    gated: bool = False
    skip: Tensor | None = None  # [N, sum of all layers' O]


@runtime_checkable
class FusedConv2d(Protocol):
    """A `backend.Conv2dKernel` that computes the ops of a `Conv2dFusion`, and its layer's low-rank branch."""

    def take_branch(self, stored: StoredBranch) -> None:
        """Take the layer's branch: down [rank, C, kh, kw] over balanced inputs, up [O, rank]."""

    def fused(self, x: Tensor, fusion: Conv2dFusion, upsample: bool = False) -> Tensor:
        """[B, C, H, W] -> [B, O, H', W'], channels last; `upsample`: as `Conv2dKernel.forward_upsampled`."""


@runtime_checkable
class FusedLinear(Protocol):
    """A `backend.LinearKernel` that computes the ops of a `LinearFusion`, and its layer's low-rank branch."""

    def take_branch(self, stored: StoredBranch) -> None:
        """Take the layer's branch: down [rank, K] over balanced inputs, up [O, rank]."""

    def fused(self, x: Tensor, fusion: LinearFusion, others: tuple[Any, ...] = ()) -> list[Tensor]:
        """[N, K] -> [N, O] of this kernel and of each of `others`, which balance and round alike, in one product."""
