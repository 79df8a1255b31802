"""Low-bit convolutions on tensor cores."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..channel_transform import ChannelTransform
from ..quantize import largest_code
from ..upsample_conv import phase_kernels
from ..weight import LowBitWeight
from .codes import image_codes
from .product import conv2d_product
from .unpack import unpacked


class Conv2d:
    """As `reference.Conv2d`, whose weight unpacks at every call too."""

    def __init__(
        self,
        weight: LowBitWeight,
        x_bits: int,
        clip: float,
        stride: tuple[int, int],
        padding: tuple[int, int],
        bias: Tensor | None = None,
        transform: ChannelTransform | None = None,
        doubles: bool = False,
    ) -> None:
        self.x_bits, self.clip, self.stride, self.padding = x_bits, clip, stride, padding
        self.weight, self.scale, self.bias, self.transform = weight, weight.scale.float(), bias, transform
        # The four kernels of a doubled picture add up to four codes, in a byte.
        same = weight.shape[2:] == (3, 3) and stride == padding == (1, 1)
        self.doubles = same and 4 * largest_code(weight.bits) <= largest_code(8)
        if doubles and self.doubles:
            _ = self._phases  # now, not at the first picture

    @cached_property
    def _phases(self) -> list[Tensor]:
        kernels = phase_kernels(self.weight.codes().short())
        return [kernel.to(torch.int8).permute(0, 2, 3, 1).contiguous() for kernel in kernels]

    def _codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes int8 [B, H, W, C] and scales [B]."""
        maps = x.permute(0, 2, 3, 1)
        return image_codes(self.transform(maps) if self.transform else maps, self.x_bits, self.clip)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [B, C, H, W] and per-image scales [B, 1, 1, 1]."""
        codes, scale = self._codes(x)
        return codes.permute(0, 3, 1, 2), scale.view(-1, 1, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        sides, taps = x.shape[2:], self.weight.shape[2:]
        high, wide = (
            (n + 2 * p - k) // s + 1 for n, p, k, s in zip(sides, self.padding, taps, self.stride, strict=True)
        )
        y = x.new_empty(len(x), high, wide, self.weight.shape[0])
        self._product(*self._codes(x), unpacked(self.weight), self.stride, self.padding, y)
        return y.permute(0, 3, 1, 2)

    def doubled(self, x: Tensor) -> Tensor:
        """As `reference.Conv2d.doubled`, from a quarter of the codes and 4/9 of the products."""
        if not self.doubles:
            return self(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        batch, _, height, width = x.shape
        y = x.new_empty(batch, 2 * height, 2 * width, self.weight.shape[0])
        codes, scale = self._codes(x)
        for number, kernel in enumerate(self._phases):
            row, column = divmod(number, 2)
            place = y[:, row::2, column::2]
            self._product(codes, scale, kernel, (1, 1), (1 - row, 1 - column), place)
        return y.permute(0, 3, 1, 2)

    def _product(
        self,
        codes: Tensor,
        scale: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        out: Tensor,
    ) -> None:
        conv2d_product(codes, weight, self.scale, scale, self.bias, stride, padding, out)
