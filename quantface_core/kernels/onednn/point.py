"""Integer products of numbers that a byte almost always holds: the weights of a transformed convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..quantize import largest_code

_BYTE = largest_code(8)


class Point:
    """The product at one point of the transformed windows: codes [N, C] uint8 -> [N, O] float32, exact."""

    def __init__(self, weight: Tensor, scale: float) -> None:
        """weight: [O, C] int16; scale: of the products, a power of two."""
        self.scale = torch.full((len(weight),), scale)
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.largest_sum = int(weight.abs().sum(1, dtype=torch.int64).amax())  # of codes that are 1 or less
        self.whole, rest = _packed(weight)
        self.spills: list[tuple[Tensor, Tensor, Any]] = []  # outputs, channels, what no byte held between them
        outputs, channels = (torch.arange(n) for n in weight.shape)
        while rest.any():
            down, across = (rest.any(dim).nonzero().flatten() for dim in (1, 0))
            outputs, channels = outputs[down], channels[across]
            packed, rest = _packed(rest[down][:, across])
            self.spills.append((outputs, channels, packed))

    @property
    def spilled(self) -> int:
        """Channels that are multiplied once more."""
        return sum(len(channels) for _, channels, _ in self.spills)

    def __call__(self, x: Tensor, zero: int) -> Tensor:
        y = self._product(x, zero, self.whole)
        for outputs, channels, rest in self.spills:
            y[:, outputs] += self._product(x[:, channels], zero, rest)
        return y

    def _product(self, x: Tensor, zero: int, weight: Any) -> Tensor:
        scale, zeros = self.scale, self.zeros
        if (outputs := weight.shape[1]) < len(scale):
            scale, zeros = scale[:outputs], zeros[:outputs]
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            x, 1.0, zero, weight, scale, zeros,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return y


def _packed(weight: Tensor) -> tuple[Any, Tensor]:
    """What bytes hold of a weight, prepacked, and the rest."""
    held = weight.clamp(-_BYTE, _BYTE)
    return torch.ops.onednn.qlinear_prepack(held.to(torch.int8).contiguous(), None), weight - held
