"""StyleGAN2's modulated convolution with a constant weight: the style scales its input and output instead.

    conv(x, demod * W * style) = demod * conv(x * style, W)        (arXiv 1912.04958, section 2.2 and appendix B)

A weight computed at run time cannot be stored as integers; W can, like that of any convolution.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ModulatedConv(nn.Module):
    """Replacement for spandrel's `ModulatedConv2d` with the same weights."""

    norms: Tensor | None  # [O, C], L2 norms of the kernels; None = no demodulation

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.modulation, self.eps = plain.modulation, plain.eps
        self.upsamples = plain.sample_mode == "upsample"
        weight: Tensor = plain.weight[0]
        outputs, channels, size, _ = weight.shape
        self.conv = nn.Conv2d(channels, outputs, size, padding=size // 2, bias=False, device="meta")
        self.conv.weight = nn.Parameter(weight, requires_grad=False)
        # Not their squares, which are out of float16's range.
        norms = weight.detach().float().square().sum((2, 3)).sqrt().to(weight.dtype) if plain.demodulate else None
        self.register_buffer("norms", norms)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """[B, C, H, W], style [B, T] -> [B, O, H, W], or [B, O, 2 H, 2 W] where it upsamples."""
        style = self.modulation(style)
        x = x * style[:, :, None, None]
        if self.upsamples:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        y: Tensor = self.conv(x)
        if self.norms is None:
            return y
        power = style.float().square() @ self.norms.float().square().t()
        return y * torch.rsqrt(power + self.eps).to(y.dtype)[:, :, None, None]
