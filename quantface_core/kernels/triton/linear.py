"""Low-bit linears on tensor cores."""

from __future__ import annotations

import torch
from torch import Tensor

from ..channel_transform import ChannelTransform
from ..weight import LowBitWeight
from .codes import token_codes
from .product import linear_product
from .unpack import unpacked


class Linear:
    """As `reference.Linear`, whose weight unpacks at every call too."""

    def __init__(
        self,
        weight: LowBitWeight,
        x_bits: int,
        clip: float,
        bias: Tensor | None = None,
        transform: ChannelTransform | None = None,
    ) -> None:
        self.x_bits, self.clip, self.bias, self.transform = x_bits, clip, bias, transform
        self.weight, self.scale = weight, weight.scale.float()
        self._biases: dict[torch.dtype, Tensor | None] = {}

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [N, K] and per-token scales [N, 1] in the dtype of x."""
        return token_codes(self.transform(x) if self.transform else x, self.x_bits, self.clip)

    def product(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The layer's result [N, O] from codes and scales, in the dtype of the scales."""
        return linear_product(codes, unpacked(self.weight), self.scale, scale, self._bias(scale.dtype))

    def _bias(self, dtype: torch.dtype) -> Tensor | None:
        if dtype not in self._biases:
            self._biases[dtype] = None if self.bias is None else self.bias.to(dtype)
        return self._biases[dtype]

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(*self.codes(x))
