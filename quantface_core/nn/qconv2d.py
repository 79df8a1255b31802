"""A convolution at 3 to 8 bits: any stride and padding, one group."""

from __future__ import annotations

from types import ModuleType
from typing import Any

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

    def _empty(self, form: LayerFormat) -> QuantLayer:
        return QuantConv2d(self.shape, form, self.bias is not None, self.stride, self.padding)

    def _make_kernel(self, backend: ModuleType) -> Any:
        form = self.format
        return backend.Conv2d(
            self.weight(), form.activation_bits, form.clip, self.stride, self.padding, self.bias, self._mixer
        )

    def forward(self, x: Tensor) -> Tensor:
        # Channels last, whatever the backend: norms add in memory's order, and codes downstream hang on it.
        y = self.kernel()(x).permute(0, 2, 3, 1).contiguous()
        if self.format.rank:
            down, up = self.branch(x.dtype)
            low = F.conv2d(x, down, None, self.stride, self.padding)
            y.view(-1, y.shape[3]).addmm_(low.permute(0, 2, 3, 1).reshape(-1, low.shape[1]), up)
        return y.permute(0, 3, 1, 2)
