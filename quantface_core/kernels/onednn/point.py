"""Integer products with weights that almost always fit int8: those of a transformed convolution."""

from __future__ import annotations

import torch
from torch import Tensor

from ..quantize import largest_code
from .rows import Rows

_BYTE = largest_code(8)


class Point:
    """The product at one point of the transformed windows: codes [N, C] uint8 -> [N, O] float32, exact."""

    def __init__(self, weight: Tensor, scale: float) -> None:
        """weight: [O, C] int16; scale: of the products, a power of two or the negative of one."""
        self.scale = weight.new_full((len(weight),), scale, dtype=torch.float32)
        self.largest_sum = int(weight.abs().sum(1, dtype=torch.int64).amax())  # for codes of magnitude 1 or less
        int8_part = weight.clamp(-_BYTE, _BYTE)
        self.int8_part = Rows(int8_part.to(torch.int8))
        # What exceeds int8, in few outputs and channels.
        rest = weight - int8_part
        self.outputs, self.channels = (rest.any(dim).nonzero().flatten() for dim in (1, 0))
        self.rest = rest[self.outputs][:, self.channels].t().float() * scale

    @property
    def outliers(self) -> int:
        """How many channels are multiplied once more, for what exceeds int8."""
        return len(self.channels)

    def __call__(self, x: Tensor, zero: int, into: Tensor | None = None) -> Tensor:
        """The product of codes around a zero point; added to `into` where given, at no extra pass over it."""
        int8_part, scale = self.int8_part, self.scale
        y = int8_part(x, zero, scale, torch.float32) if into is None else int8_part.add(x, zero, scale, into)
        if self.outliers:  # float32 is exact here too: see `WinogradBase.of`
            y.index_add_(1, self.outputs, x.index_select(1, self.channels).float().sub_(zero) @ self.rest)
        return y
