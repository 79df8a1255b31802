"""The time embedding of a UNet that is asked for one time only."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..nn.constant_cache import ConstantCache


class TimeProjection(nn.Module):
    """Sines and cosines of the one time, as diffusers' module makes them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self._kept = module, ConstantCache()

    def forward(self, timesteps: Tensor) -> Tensor:
        """[B] -> [B or 1, C] float32."""
        return self._kept(timesteps, (), self.module)


class TimeEmbedding(nn.Module):
    """Two linears with an activation between, with diffusers' names; stands for its `TimestepEmbedding`."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.linear_1, self.act, self.linear_2 = module.linear_1, module.act, module.linear_2
        self._kept = ConstantCache()

    def forward(self, sample: Tensor, condition: None = None) -> Tensor:
        """[B, C] -> [B or 1, T]."""
        return self._kept(sample, (self.linear_1, self.linear_2), lambda x: self.linear_2(self.act(self.linear_1(x))))


def cache_time_embedding(unet: Any) -> None:
    """Put the above in a UNet's places, in place; it is never asked for another time afterwards."""
    unet.time_proj, unet.time_embedding = TimeProjection(unet.time_proj), TimeEmbedding(unet.time_embedding)
