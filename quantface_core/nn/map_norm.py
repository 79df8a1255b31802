"""Group normalization of maps that low-bit convolutions write, channels last, on GPUs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels import triton


class MapNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm`, by a kernel of our own where torch's would turn the map around first."""

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda or torch.is_grad_enabled() or not _last(x) or triton.unavailable(x.device):
            return super().forward(x)
        return triton.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def _last(x: Tensor) -> bool:
    """Whether a map's channels lie side by side in memory."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def replace_norms(model: nn.Module) -> None:
    """Put `MapNorm` in the places of torch's group norms, with their weights."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.GroupNorm and child.affine:
                norm = MapNorm(child.num_groups, child.num_channels, child.eps)
                norm.weight, norm.bias = child.weight, child.bias
                module.register_module(name, norm)
