"""A 3- to 8-bit 1x1 convolution, computed as a linear over pixels."""

from __future__ import annotations

from torch import Tensor

from ..types import LayerFormat
from .interop import plain_for_adapters
from .qlinear import QuantLinear


class QuantPointwiseConv2d(QuantLinear):
    """[B, C, H, W] or [C, H, W] -> [B, O, H, W] or [O, H, W], channels last, per-pixel activation scales.

    Stored like a `QuantLinear` [O, C].
    """

    kernel_size, stride, padding = (1, 1), (1, 1), (0, 0)
    dilation, groups, padding_mode = (1, 1), 1, "zeros"
    __new__ = plain_for_adapters  # type: ignore[assignment]

    def __init__(self, shape: tuple[int, ...], fmt: LayerFormat, bias: bool) -> None:
        super().__init__(shape, fmt, bias)
        self.out_channels, self.in_channels = shape[:2]

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(-3, -1)).movedim(-1, -3)
