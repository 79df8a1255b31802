"""A convolution at 3 to 8 bits: any stride and padding, one group."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import LayerFormat
from .qlayer import QuantLayer


class QuantConv2d(QuantLayer):
    """[B, C, H, W] -> [B, O, H', W'], per-image activation scales; see QuantLayer."""

    def __init__(
        self,
        shape: tuple[int, ...],
        form: LayerFormat,
        bias: bool,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(shape, form, bias)
        self.stride, self.padding = stride, padding

    def _make_kernel(self, backend: ModuleType) -> Any:
        form = self.format
        return backend.Conv2d(self.weight(), form.activation_bits, form.clip, self.stride, self.padding)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel()
        # A channel transform is the same at every tap, and zero padding stays zero.
        balanced = self.balance(x.movedim(1, -1)).movedim(-1, 1)
        # One memory format whatever the backend: norms add in its order, and codes downstream hang on it.
        y: Tensor = kernel(balanced).to(x.dtype, memory_format=torch.channels_last)
        if self.format.rank:
            down = F.conv2d(balanced, self.down.to(x.dtype), None, self.stride, self.padding)
            y = y + F.conv2d(down, self.up.to(x.dtype)[:, :, None, None])
        return y if self.bias is None else y + self.bias.to(x.dtype)[:, None, None]
