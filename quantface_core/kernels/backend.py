"""What a backend is: the contract that `reference`, `onednn`, `triton` and `half` implement, and their names.

To add one: a module beside those that implements `Backend`, and its name in `NAMES`; from outside, `register_backend`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .channel_transform import ChannelTransform
    from .weight import LowBitWeight

NAMES = ("onednn", "triton", "half", "reference")
"""The fastest first."""


class ActivationFormat(NamedTuple):
    """How activations are quantized, in the order in which the quantizers of `quantize` take it."""

    bits: int  # 3 to 8
    clip: float = 1.0  # clipping ratio: the share of the largest magnitude that the largest code stands for
    zero_point: int | None = None  # None = symmetric codes; see `quantize.code_range`


@dataclass(frozen=True, eq=False)
class LinearSpec:
    """All that a backend needs to prepare a low-bit linear. Tensors are on the device that will compute."""

    weight: LowBitWeight  # [O, K]; of a convolution [O, C, kh, kw]
    activations: ActivationFormat
    bias: Tensor | None = None  # [O] float32
    transform: ChannelTransform | None = None  # balances x first; None = x is balanced already


@dataclass(frozen=True, eq=False)
class Conv2dSpec(LinearSpec):
    """All that a backend needs to prepare a low-bit convolution: one group, no dilation, zero padding."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    fuse_upsample: bool = False  # whether `forward_upsampled` will be called: backends may prepack for it


class LinearKernel(Protocol):
    """A prepared linear: x [N, C] -> [N, O] in the dtype of x, in two steps, the first of which layers may share."""

    def codes(self, x: Tensor) -> tuple[Any, ...]:
        """x balanced and rounded: the arguments of `product`."""

    @property
    def product(self) -> Callable[..., Tensor]:
        """The result [N, O] from codes."""


class Conv2dKernel(Protocol):
    """A prepared convolution: x [B, C, H, W] -> [B, O, H', W'] in the dtype of x."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def forward_upsampled(self, x: Tensor) -> Tensor:
        """The same of x upsampled 2x (nearest neighbour): [B, O, 2 H', 2 W']."""


class Backend(Protocol):
    """A module, or any object with these attributes. Its codes are those of `reference` to the bit."""

    @property
    def Linear(self) -> Callable[[LinearSpec], LinearKernel]:  # noqa: N802 a class
        """Constructor of its linear."""

    @property
    def Conv2d(self) -> Callable[[Conv2dSpec], Conv2dKernel]:  # noqa: N802 a class
        """Constructor of its convolution."""

    @property
    def unavailable(self) -> Callable[[torch.device], str | None]:
        """Why the backend cannot run on a device; None = it can."""

    @property
    def supports(self) -> Callable[[int, int], bool]:
        """Whether it is exact for (weight bits, activation bits); `reference` stands in where it is not."""
