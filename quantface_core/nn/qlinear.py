"""A linear layer at 3 to 8 bits."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor

from .qlayer import QuantLayer


class QuantLinear(QuantLayer):
    """[..., C] -> [..., O], per-token activation scales; see QuantLayer."""

    def _make_kernel(self, backend: ModuleType) -> Any:
        form = self.format
        return backend.Linear(self.weight(), form.activation_bits, form.clip, self.bias, self._mixer)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        y: Tensor = self.kernel()(rows)
        if self.format.rank:
            down, up = self.branch(x.dtype)
            y.addmm_(rows @ down.t(), up)
        return y.unflatten(0, x.shape[:-1])
