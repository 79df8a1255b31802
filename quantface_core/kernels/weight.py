"""A low-bit weight as it is stored: w = scale[o] * q, q packed densely, one scale per output channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .bitpack import packed_size, unpack
from .quantize import largest_code


@dataclass(frozen=True)
class LowBitWeight:
    """Weights w[o] = scale[o] * q[o] of a linear [O, K] or a convolution [O, C, kh, kw].

    Symmetric, without a zero point: q are integers in [-(2^(bits - 1) - 1), 2^(bits - 1) - 1].
    """

    packed: Tensor  # q as `bitpack.pack` stores it: [ceil(numel * bits / 8)] uint8
    scale: Tensor  # [O] float32
    bits: int  # 3 to 8
    shape: tuple[int, ...]  # of the weight

    def codes(self) -> Tensor:
        """q as int8 in `shape`. Raises ConfigError when `packed` is not of that size."""
        return unpack(self.packed, self.bits, self.shape)


def self_test_weight(shape: tuple[int, ...], bits: int, device: torch.device) -> LowBitWeight:
    """A weight for a backend's self-test: its codes run through all values, and it makes outputs near 1."""
    packed = torch.arange(packed_size(torch.Size(shape).numel(), bits), device=device) * 37 % 256
    scale = torch.full(shape[:1], 1 / largest_code(bits), dtype=torch.float32, device=device)
    return LowBitWeight(packed.to(torch.uint8), scale, bits, shape)
