"""Seeded values on the device where Triton's kernels run: a GPU, or the CPU in Triton's interpreter.

They are such that sums come out the same in any order: then everything is compared to the bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.channel_transform import ChannelTransform
from quantface_core.kernels.hadamard import Rotation
from quantface_core.kernels.quantize import largest_code
from quantface_core.kernels.weight import LowBitWeight

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

SHAPES = {
    "even": ((3, 3), (1, 1), (1, 1), (8, 6)),
    "odd": ((3, 3), (1, 1), (1, 1), (7, 6)),
    "halved": ((3, 3), (2, 2), (0, 0), (9, 9)),
    "point": ((1, 1), (1, 1), (0, 0), (8, 6)),
    "upsampled": ((3, 3), (1, 1), (1, 1), (5, 6)),
}
"""Of convolutions: kernel, stride, padding, and the sides of the map."""


class Draw:
    """Seeded numbers on the device."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def eighths(self, *shape: int) -> Tensor:
        """-4 to 4 in steps of 1/8: of the results of products and sums of a few hundred float32 loses nothing."""
        return (torch.randint(-32, 33, shape, generator=self.generator) / 8).to(DEVICE)

    def powers(self, *shape: int) -> Tensor:
        """1/2, 1 or 2, of either sign."""
        signs = torch.randint(0, 2, shape, generator=self.generator) * 2 - 1
        return (signs * 2.0 ** torch.randint(-1, 2, shape, generator=self.generator)).to(DEVICE)

    def floats(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(DEVICE)

    def weight(self, shape: tuple[int, ...], bits: int = 4) -> LowBitWeight:
        limit = largest_code(bits)
        codes = torch.randint(-limit, limit + 1, shape, generator=self.generator).to(torch.int8)
        scale = torch.rand(shape[0], generator=self.generator) + 0.1
        return LowBitWeight(pack(codes, bits).to(DEVICE), scale.to(DEVICE), bits, shape)

    def transform(self, channels: int, block: int, folded: bool = False) -> ChannelTransform:
        rotation = Rotation(channels, block, 3)
        made = ChannelTransform(self.powers(channels), rotation)
        if folded:
            made.factors, made.folded = torch.ones_like(made.factors), True
        return made


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal to the bit in the interpreter. A GPU adds a branch's products to a result one by one, which rounds more."""
    close = {"rtol": 1e-5, "atol": 1e-4} if found.is_cuda else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(found, expected, **close)


def maps(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)
