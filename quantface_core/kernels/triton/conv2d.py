"""Low-bit convolutions on tensor cores."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..around import AroundMap, keep_channel_sums
from ..channel_transform import ChannelTransform
from ..quantize import largest_code
from ..upsample_conv import phase_kernels
from ..weight import LowBitWeight
from .branch import Branch
from .maps import balanced, image_codes
from .product import Additions, conv2d_product
from .unpack import UnpackedWeight

PLAIN = AroundMap()


class Conv2d:
    """As `reference.Conv2d`, and with what is around it in the same passes."""

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
        self.branch: Branch | None = None
        self._unpacked = UnpackedWeight(weight)
        # The four kernels of a doubled picture add up to four codes, in a byte.
        same = weight.shape[2:] == (3, 3) and stride == padding == (1, 1)
        self.doubles = same and 4 * largest_code(weight.bits) <= largest_code(8)
        if doubles and self.doubles:
            _ = self._phases  # now, not at the first picture

    @cached_property
    def _phases(self) -> Tensor:
        """The four phases' kernels, [4, O, 2, 2, C] int8."""
        kernels = phase_kernels(self.weight.codes().short())
        return torch.stack([kernel.to(torch.int8).permute(0, 2, 3, 1) for kernel in kernels]).contiguous()

    def take_branch(self, down: Tensor, up: Tensor) -> None:
        """See `around.FusedConv2d`."""
        self.branch = Branch(down, up)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [B, C, H, W] and per-image scales [B, 1, 1, 1]."""
        codes, scale = image_codes(*balanced(x.permute(0, 2, 3, 1), self.transform), self.x_bits, self.clip)
        return codes.permute(0, 3, 1, 2), scale.view(-1, 1, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        return self._computed(x, PLAIN, False, None)

    def doubled(self, x: Tensor) -> Tensor:
        """As `reference.Conv2d.doubled`, from a quarter of the codes and 4/9 of the products."""
        return self._computed(x, PLAIN, True, None)

    def fused(self, x: Tensor, around: AroundMap, doubled: bool = False) -> Tensor:
        """See `around.FusedConv2d`."""
        return self._computed(x, around, doubled, self.branch)

    def _computed(self, x: Tensor, around: AroundMap, doubled: bool, branch: Branch | None) -> Tensor:
        if doubled and not self.doubles:
            x, doubled = F.interpolate(x, scale_factor=2.0, mode="nearest"), False
        maps, largest = balanced(x.permute(0, 2, 3, 1), self.transform, around.factors, around.silu)
        codes, scale = image_codes(maps, largest, self.x_bits, self.clip)
        low, grouped = None, False
        if branch:
            low, grouped = branch.low(maps.permute(0, 3, 1, 2), self.stride, self.padding, doubled)
        y = x.new_empty(len(x), *self._sides(x, doubled), self.weight.shape[0])
        added = Additions(
            low,
            branch.up(x.dtype) if branch else None,
            grouped,
            None if around.row is None else around.row.contiguous(),
            None if around.skip is None else around.skip.permute(0, 2, 3, 1).contiguous(),
        )
        weight = self._phases if doubled else self._unpacked()
        sums = conv2d_product(
            codes, weight, self.scale, scale, self.bias, self.stride, self.padding, y, added, sums=around.sums
        )
        result = y.permute(0, 3, 1, 2)
        keep_channel_sums(result, sums)
        return result

    def _sides(self, x: Tensor, doubled: bool) -> list[int]:
        """Of the result: [H', W']."""
        if doubled:
            return [2 * side for side in x.shape[2:]]
        taps = self.weight.shape[2:]
        sides = zip(x.shape[2:], self.padding, taps, self.stride, strict=True)
        return [(side + 2 * pad - tap) // step + 1 for side, pad, tap, step in sides]
