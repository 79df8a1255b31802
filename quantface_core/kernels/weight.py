"""A low-bit weight as it is stored: dense codes and one scale per output channel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .bitpack import unpack


@dataclass(frozen=True)
class LowBitWeight:
    """Codes of a linear [O, K] or a convolution [O, C, kh, kw], packed to their bits."""

    packed: Tensor  # [packed_size] uint8
    scale: Tensor  # [O] float32
    bits: int
    shape: tuple[int, ...]

    def codes(self) -> Tensor:
        """The codes, int8, in `shape`."""
        return unpack(self.packed, self.bits, self.shape)
