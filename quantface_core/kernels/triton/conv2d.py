"""Low-bit convolutions on tensor cores."""

from __future__ import annotations

from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backend import Conv2dSpec
from ..fusion import Conv2dFusion, StoredBranch, attach_channel_sums
from ..quantize import largest_code
from ..upsample_conv import phase_kernels
from ..weight_cache import CachedWeight
from .branch import Branch
from .maps import balanced, image_codes
from .product import Epilogue, conv2d_product
from .unpack import unpacked

PLAIN = Conv2dFusion()


class Conv2d:
    """As `reference.Conv2d`, and `fusion.FusedConv2d`."""

    def __init__(self, spec: Conv2dSpec) -> None:
        self.weight, self.scale, self.bias = spec.weight, spec.weight.scale.float(), spec.bias
        self.activations, self.transform = spec.activations, spec.transform
        self.stride, self.padding = spec.stride, spec.padding
        self.branch: Branch | None = None
        self._unpacked = CachedWeight(partial(unpacked, spec.weight))
        # A phase kernel sums up to four codes, which have to fit a byte.
        same = spec.weight.shape[2:] == (3, 3) and spec.stride == spec.padding == (1, 1)
        self.fuses_upsample = same and 4 * largest_code(spec.weight.bits) <= largest_code(8)
        if spec.fuse_upsample and self.fuses_upsample:
            _ = self._phases  # now, not at the first call

    @cached_property
    def _phases(self) -> Tensor:
        """The four phases' kernels, [4, O, 2, 2, C] int8."""
        kernels = phase_kernels(self.weight.codes().short())
        return torch.stack([kernel.to(torch.int8).permute(0, 2, 3, 1) for kernel in kernels]).contiguous()

    def take_branch(self, stored: StoredBranch) -> None:
        """See `fusion.FusedConv2d`."""
        self.branch = Branch(stored)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [B, C, H, W] and per-image scales [B, 1, 1, 1]."""
        codes, scale = image_codes(*balanced(x.permute(0, 2, 3, 1), self.transform), self.activations)
        return codes.permute(0, 3, 1, 2), scale.view(-1, 1, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        return self._computed(x, PLAIN, False, None)

    def forward_upsampled(self, x: Tensor) -> Tensor:
        """As `reference.Conv2d.forward_upsampled`, from a quarter of the codes and 4/9 of the products."""
        return self._computed(x, PLAIN, True, None)

    def fused(self, x: Tensor, fusion: Conv2dFusion, upsample: bool = False) -> Tensor:
        """See `fusion.FusedConv2d`."""
        return self._computed(x, fusion, upsample, self.branch)

    def _computed(self, x: Tensor, fusion: Conv2dFusion, upsample: bool, branch: Branch | None) -> Tensor:
        if upsample and not self.fuses_upsample:
            x, upsample = F.interpolate(x, scale_factor=2.0, mode="nearest"), False
        maps, largest = balanced(x.permute(0, 2, 3, 1), self.transform, fusion.factors, fusion.silu)
        codes, scale = image_codes(maps, largest, self.activations)
        low, grouped = None, False
        if branch:
            low, grouped = branch.low(maps.permute(0, 3, 1, 2), self.stride, self.padding, upsample)
        y = x.new_empty(len(x), *self._sides(x, upsample), self.weight.shape[0])
        epilogue = Epilogue(
            low,
            branch.up(x.dtype) if branch else None,
            grouped,
            None if fusion.channel_bias is None else fusion.channel_bias.contiguous(),
            None if fusion.skip is None else fusion.skip.permute(0, 2, 3, 1).contiguous(),
        )
        weight = self._phases if upsample else self._unpacked()
        sums = conv2d_product(
            codes, weight, self.scale, scale, self.bias, self.stride, self.padding, y, epilogue, sums=fusion.sums
        )
        result = y.permute(0, 3, 1, 2)
        attach_channel_sums(result, sums)
        return result

    def _sides(self, x: Tensor, upsample: bool) -> list[int]:
        """[H', W'] of the result."""
        if upsample:
            return [2 * side for side in x.shape[2:]]
        taps = self.weight.shape[2:]
        sides = zip(x.shape[2:], self.padding, taps, self.stride, strict=True)
        return [(side + 2 * pad - tap) // step + 1 for side, pad, tap, step in sides]
