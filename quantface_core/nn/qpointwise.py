"""A convolution of one tap at 3 to 8 bits, as the linear over pixels that it is."""

from __future__ import annotations

from torch import Tensor

from .qlinear import QuantLinear


class QuantPointwiseConv2d(QuantLinear):
    """[B, C, H, W] -> [B, O, H, W], channels last, per-pixel activation scales; stored as `QuantLinear`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
