"""Cached time embedding for a UNet that runs at a single timestep."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..nn.constant_cache import ConstantCache


class TimeProjection(nn.Module):
    """diffusers' sinusoidal embedding of the timestep, computed once."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self._cache = module, ConstantCache()

    def forward(self, timesteps: Tensor) -> Tensor:
        """Timesteps [B], all the same -> [B or 1, C] float32."""
        return self._cache(timesteps, (), self.module)


class TimeEmbedding(nn.Module):
    """Replacement for diffusers' `TimestepEmbedding`, with its submodule names, computed once."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.linear_1, self.act, self.linear_2 = module.linear_1, module.act, module.linear_2
        self._cache = ConstantCache()

    def forward(self, sample: Tensor, condition: None = None) -> Tensor:
        """[B, C] -> [B or 1, T]."""
        return self._cache(sample, (self.linear_1, self.linear_2), lambda x: self.linear_2(self.act(self.linear_1(x))))


def cache_time_embedding(unet: Any) -> None:
    """Replace a UNet's time projection and embedding by the above, in place; from then on it must only be called with
    one timestep."""
    unet.time_proj, unet.time_embedding = TimeProjection(unet.time_proj), TimeEmbedding(unet.time_embedding)
