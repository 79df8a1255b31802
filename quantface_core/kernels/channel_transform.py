"""Balancing of activations: x^ = (x / s) H over the channels (DESIGN.md section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from .hadamard import Rotation, hadamard, rotation_signs, unrotate


class ChannelTransform:
    """Balances activations whose channels are last: [..., C] -> [..., C], in their own dtype."""

    def __init__(self, channel_scale: Tensor, rotation: Rotation) -> None:
        """channel_scale: [C], what activations are multiplied by: 1/s; its signs are the rotation's where folded."""
        self.rotation, self.channel_scale = rotation, channel_scale.float()
        self.factors = self.channel_scale * rotation_signs(rotation).to(self.channel_scale)
        self.folded = bool((self.factors == 1).all())  # what makes x has multiplied it already: see nn/fold.py
        self._cast: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def _tensors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The factors and the block's matrix."""
        if dtype not in self._cast:
            with torch.inference_mode(False):  # what is made in it takes no part in a training that follows
                matrix = hadamard(self.rotation.block).to(self.factors.device, dtype, copy=True)
                self._cast[dtype] = self.factors.to(dtype, copy=True), matrix
        return self._cast[dtype]

    def scales(self, dtype: torch.dtype) -> Tensor:
        """What channels are multiplied by before they are mixed, [C], in a dtype; ones where `folded`."""
        return self._tensors(dtype)[0]

    def __call__(self, x: Tensor) -> Tensor:
        factors, matrix = self._tensors(x.dtype)
        if not self.folded:
            x = x * factors
        # As rows, in so many words: matmul would batch over what is not contiguous, several times slower.
        return x if self.rotation.block == 1 else (x.reshape(-1, self.rotation.block) @ matrix).view(x.shape)

    def fold(self, weight: Tensor) -> Tensor:
        """A weight [O, C, ...] that reads x^ as one that reads x: x^ W^T = x fold(W)^T."""
        return unrotate(weight.float(), self.rotation, 1) * self.channel_scale.view(1, -1, *[1] * (weight.ndim - 2))
