"""Group normalization of channels-last feature maps, as low-bit convolutions write them, on GPUs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels import triton
from .replace import replace_modules


class ChannelsLastGroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm` over [B, C, H, W] of any float dtype; a Triton kernel where x is channels last on a GPU.

    Torch's own would first copy such a map to another layout. The result has the shape, dtype and layout of x.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.uses_triton(x):
            return super().forward(x)
        return triton.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def uses_triton(self, x: Tensor) -> bool:
        """Whether x [B, C, H, W] is normalized by the Triton kernel: channels last, on a GPU, gradients off."""
        return not torch.is_grad_enabled() and _is_channels_last(x) and not triton.unavailable(x.device)

    def forward_silu(self, x: Tensor) -> Tensor:
        """silu(norm(x)) in one pass, for an x that `uses_triton` accepts; in the shape, dtype and layout of x."""
        return triton.group_norm(x, self.num_groups, self.weight, self.bias, self.eps, silu=True)


def _is_channels_last(x: Tensor) -> bool:
    """Whether x is [B, C, H, W] in torch's channels_last memory format, and not contiguous as well."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def replace_norms(model: nn.Module) -> None:
    """Replace torch's affine group norms by `ChannelsLastGroupNorm` with the same weights, in place."""

    def replacement(module: nn.Module) -> nn.Module | None:
        if type(module) is not nn.GroupNorm or not module.affine:
            return None
        norm = ChannelsLastGroupNorm(module.num_groups, module.num_channels, module.eps)
        norm.weight, norm.bias = module.weight, module.bias
        return norm

    replace_modules(model, replacement)
