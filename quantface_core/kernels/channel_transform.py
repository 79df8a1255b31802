"""Balancing of activations: x^ = (x / s) H over the channels (docs/method.md, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from .hadamard import Rotation, hadamard, rotation_signs, unrotate


class ChannelTransform:
    """Balances activations whose channels are last: [..., C] -> [..., C], in their own dtype."""

    def __init__(self, channel_scale: Tensor, rotation: Rotation) -> None:
        """channel_scale: [C], by which activations are multiplied: 1/s, or the rotation's signs where s is folded."""
        self.rotation, self.channel_scale = rotation, channel_scale.float()
        self.factors = self.channel_scale * rotation_signs(rotation).to(self.channel_scale)
        # Where all are 1, the producer of x has absorbed them: see nn/fold.py.
        self.folded = not self.factors.is_meta and bool((self.factors == 1).all())
        self._cast: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def _tensors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The factors [C] and the block's Hadamard matrix, in a dtype."""
        if dtype not in self._cast:
            with torch.inference_mode(False):  # inference tensors could take no part in training later
                matrix = hadamard(self.rotation.block).to(self.factors.device, dtype, copy=True)
                self._cast[dtype] = self.factors.to(dtype, copy=True), matrix
        return self._cast[dtype]

    def scales(self, dtype: torch.dtype) -> Tensor:
        """The factors [C] that channels are multiplied by before they are mixed, in a dtype; ones where `folded`."""
        return self._tensors(dtype)[0]

    def __call__(self, x: Tensor) -> Tensor:
        factors, matrix = self._tensors(x.dtype)
        if not self.folded:
            x = x * factors
        # Reshaped to rows explicitly: matmul would batch over non-contiguous dimensions, several times slower.
        return x if self.rotation.block == 1 else (x.reshape(-1, self.rotation.block) @ matrix).view(x.shape)

    def fold(self, weight: Tensor) -> Tensor:
        """Turn a weight [O, C, ...] on x^ into one on x, float32: x^ W^T = x fold(W)^T."""
        return unrotate(weight.float(), self.rotation, 1) * self.channel_scale.view(1, -1, *[1] * (weight.ndim - 2))
