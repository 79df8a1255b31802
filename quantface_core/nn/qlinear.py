"""A linear layer at 3 to 8 bits."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor

from .qlayer import QuantLayer


class QuantLinear(QuantLayer):
    """[..., C] -> [..., O], per-token activation scales; see QuantLayer."""

    def _make_kernel(self, backend: ModuleType) -> Any:
        return backend.Linear(self.weight(), self.format.activation_bits, self.format.clip)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel()
        balanced = self.balance(x)
        y: Tensor = kernel(balanced).to(x.dtype)
        if self.format.rank:
            y = y + (balanced @ self.down.to(x.dtype).t()) @ self.up.to(x.dtype).t()
        return y if self.bias is None else y + self.bias.to(x.dtype)
