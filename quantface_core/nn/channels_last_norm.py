"""Group normalization of maps that low-bit convolutions write, channels last, on GPUs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels import triton
from .replace import replace_modules


class ChannelsLastGroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm`, by a kernel of our own where torch's would turn the map around first."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_ours(x):
            return super().forward(x)
        return triton.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def is_ours(self, x: Tensor) -> bool:
        """Whether x is normalized by our own kernel, which computes SiLU in the same pass: see `activated`."""
        return not torch.is_grad_enabled() and _last(x) and not triton.unavailable(x.device)

    def activated(self, x: Tensor) -> Tensor:
        """SiLU of the norm of what `is_ours`."""
        return triton.group_norm(x, self.num_groups, self.weight, self.bias, self.eps, silu=True)


def _last(x: Tensor) -> bool:
    """Whether a map's channels lie side by side in memory."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def replace_norms(model: nn.Module) -> None:
    """Put `ChannelsLastGroupNorm` in the places of torch's group norms, with their weights."""

    def replacement(module: nn.Module) -> nn.Module | None:
        if type(module) is not nn.GroupNorm or not module.affine:
            return None
        norm = ChannelsLastGroupNorm(module.num_groups, module.num_channels, module.eps)
        norm.weight, norm.bias = module.weight, module.bias
        return norm

    replace_modules(model, replacement)
