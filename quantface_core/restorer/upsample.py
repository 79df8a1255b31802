"""Upsampling blocks whose convolution can fuse the upsampling, reading its input at the lower resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from ..nn.marks import FusesUpsample
from ..nn.replace import replace_modules


class Upsample(nn.Module, FusesUpsample):
    """Replacement for diffusers' `Upsample2D`, with its submodule name: nearest-neighbour doubling, convolution."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, hidden_states: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """[B, C, H, W] -> [B, O, 2 H, 2 W], or [B, O, *output_size], the size of a skip connection with odd sides."""
        forward_upsampled = getattr(self.conv, "forward_upsampled", None)
        if forward_upsampled is not None and output_size is None:
            return forward_upsampled(hidden_states)
        size = [2 * side for side in hidden_states.shape[2:]] if output_size is None else list(output_size)
        return self.conv(F.interpolate(hidden_states, size, mode="nearest"))


def replace_upsamplers(model: nn.Module) -> None:
    """Replace diffusers' plain upsampling blocks by `Upsample`s that reuse their convolutions, in place."""

    def replacement(module: Any) -> nn.Module | None:
        plain = type(module) is Upsample2D and module.name == "conv" and module.use_conv and module.norm is None
        return Upsample(module.conv) if plain else None

    replace_modules(model, replacement)
