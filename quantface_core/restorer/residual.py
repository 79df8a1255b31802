"""Residual blocks that create no more maps than necessary: at image resolution a map costs more than its arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..nn.constant_cache import ConstantCache
from ..nn.fused import norm_conv
from ..nn.marks import Recomputable
from ..nn.qlinear import QuantLinear
from ..nn.replace import replace_modules


class FusedResnetBlock(nn.Module, Recomputable):
    """Replacement for diffusers' `ResnetBlock2D`, with its submodule names: two norm-SiLU-conv steps and a skip."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, block.conv1
        self.time_emb_proj: nn.Module | None = block.time_emb_proj
        self.norm2, self.conv2 = block.norm2, block.conv2
        self.nonlinearity = block.nonlinearity
        self.conv_shortcut: nn.Module | None = block.conv_shortcut
        self._time = ConstantCache()

    def forward(self, input_tensor: Tensor, temb: Tensor | None = None) -> Tensor:
        """[B, C, H, W], time embedding [B or 1, T] or None -> [B, O, H, W]."""
        if self.recomputed and torch.is_grad_enabled():
            made: Tensor = checkpoint(self._computed, input_tensor, temb, use_reentrant=False)
            return made
        return self._computed(input_tensor, temb)

    def _computed(self, input_tensor: Tensor, temb: Tensor | None) -> Tensor:
        channel_bias = None if temb is None else self._of_time(temb)
        x = norm_conv(self.conv1, self.norm1, self.nonlinearity, input_tensor, channel_bias)
        skip = input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor)
        return norm_conv(self.conv2, self.norm2, self.nonlinearity, x, skip=skip)

    def _of_time(self, temb: Tensor) -> Tensor | None:
        """The projected time embedding, [B or 1, O], cached: with one step, every image has the same timestep."""
        layer: Any = self.time_emb_proj
        if layer is None:
            return None
        if isinstance(layer, QuantLinear) and temb.device.type == "cpu":
            return layer.cached(self.nonlinearity(temb))
        return self._time(temb, (layer,), lambda x: layer(self.nonlinearity(x)))


def replace_residuals(model: nn.Module) -> None:
    """Replace diffusers' plain residual blocks by `FusedResnetBlock`s that reuse their layers, in place."""
    replace_modules(model, lambda m: FusedResnetBlock(m) if type(m) is ResnetBlock2D and _is_plain(m) else None)


def _is_plain(block: ResnetBlock2D) -> bool:
    resizes = block.upsample is not None or block.downsample is not None
    adds_time = block.time_emb_proj is None or (block.time_embedding_norm == "default" and not block.skip_time_act)
    return adds_time and not resizes and block.output_scale_factor == 1 and not block.dropout.p
