"""Balancing of activations: x^ = (x / s) H over the channels (DESIGN.md section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from .hadamard import Rotation, hadamard, random_signs, unrotate


class Mixer:
    """Balances activations whose channels are last: [..., C] -> [..., C], in their own dtype."""

    def __init__(self, channel_scale: Tensor, rotation: Rotation) -> None:
        """channel_scale: [C], what activations are multiplied by: 1/s."""
        self.rotation, self.channel_scale = rotation, channel_scale.float()
        self._cast: dict[torch.dtype, tuple[Tensor, Tensor | None]] = {}

    def _tensors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """The scale with the rotation's signs, and the block's matrix; None = no rotation."""
        if dtype not in self._cast:
            before, matrix = self.channel_scale, None
            if self.rotation.block > 1:
                before = before * random_signs(self.rotation.channels, self.rotation.seed).to(before)
                matrix = hadamard(self.rotation.block).to(before.device, dtype)
            self._cast[dtype] = before.to(dtype), matrix
        return self._cast[dtype]

    def __call__(self, x: Tensor) -> Tensor:
        before, matrix = self._tensors(x.dtype)
        x = x * before
        # As rows, in so many words: matmul would batch over what is not contiguous, several times slower.
        return x if matrix is None else (x.reshape(-1, self.rotation.block) @ matrix).view(x.shape)

    def fold(self, weight: Tensor) -> Tensor:
        """A weight [O, C, ...] that reads x^ as one that reads x: x^ W^T = x fold(W)^T."""
        if self.rotation.block > 1:
            weight = unrotate(weight.float(), self.rotation, 1)
        return weight.float() * self.channel_scale.view(1, -1, *[1] * (weight.ndim - 2))
