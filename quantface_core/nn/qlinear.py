"""A linear layer at 3 to 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .qlayer import QuantLayer


class QuantLinear(QuantLayer):
    """[..., C] -> [..., O], per-token activation scales; see QuantLayer."""

    def _make_kernel(self, backend: ModuleType) -> Any:
        form = self.format
        # What its codes hang on besides its input.
        scale = self.channel_scale.cpu().numpy().tobytes()
        self.rounds_by = (backend.__name__, form.activation_bits, form.clip, self.rotation, scale)
        self._last: tuple[Tensor, Tensor] | None = None
        return backend.Linear(self.stored_weight(), form.activation_bits, form.clip, self.bias, self._mixer)

    def forward(self, x: Tensor) -> Tensor:
        return project((self,), x)[0]

    def remembering(self, x: Tensor) -> Tensor:
        """As forward, of an input that is mostly the same as the last: its result is kept, and must not be changed."""
        self.kernel()
        if torch.is_grad_enabled() or x.device.type != "cpu":  # where comparing would wait for the device
            return self(x)
        if self._last is None or self._last[0].dtype != x.dtype or not torch.equal(self._last[0], x):
            self._last = x.clone(), self(x)
        return self._last[1]


def project(layers: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """What linear layers make of one input [..., C], each [..., O].

    Low-bit layers that balance and round it alike do so once: it costs nearly as much as a product.
    """
    low = [(layer, layer.kernel()) for layer in layers if isinstance(layer, QuantLinear)]
    if len(low) < len(layers) or any(layer.rounds_by != low[0][0].rounds_by for layer, _ in low):
        return [layer(x) for layer in layers]
    with torch.no_grad():
        rows = x.reshape(-1, x.shape[-1])
        codes, results = low[0][1].codes(rows), []
        for layer, kernel in low:
            y: Tensor = kernel.product(*codes)
            if layer.format.rank:
                down, up = layer.branch(x.dtype)
                y.addmm_(rows @ down.t(), up)
            results.append(y.unflatten(0, x.shape[:-1]))
        return results
