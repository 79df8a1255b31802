"""Low-bit linears by oneDNN's integer product."""

from __future__ import annotations

import torch
from torch import Tensor

from ..channel_transform import ChannelTransform
from ..quantize import byte_of_zero, per_token_scale
from ..reference import product_dtype, scale_rows
from ..weight import LowBitWeight
from .codes import pieces, write_dtype, write_token_codes
from .rows import Rows


class Linear:
    """As `reference.Linear`."""

    def __init__(
        self,
        weight: LowBitWeight,
        activation_bits: int,
        clip: float,
        bias: Tensor | None = None,
        transform: ChannelTransform | None = None,
        zero_point: int | None = None,
    ) -> None:
        self.activation_bits, self.clip, self.zero_point = activation_bits, clip, zero_point
        self.zero = byte_of_zero(activation_bits, zero_point)
        self.bias, self.transform = bias, transform
        self._biases: dict[torch.dtype, Tensor | None] = {}
        self.rows, self.scale = Rows(weight.codes()), weight.scale.float()

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes uint8 [N, K], offset by `zero`, and per-token scales [N, 1] in the dtype of x."""
        codes = torch.empty(x.shape, dtype=torch.uint8)
        scales = torch.empty(len(x), 1, dtype=x.dtype)
        for piece in pieces(x):
            balanced = self.transform(x[piece]) if self.transform else x[piece]
            scales[piece] = per_token_scale(balanced, self.activation_bits, self.clip, self.zero_point)
            write_token_codes(balanced, scales[piece], self.activation_bits, codes[piece], self.zero_point)
        return codes, scales

    def product(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The layer's result [N, O] from codes and scales, in the dtype of the scales."""
        product = self.rows(codes, self.zero, self.scale, write_dtype(scale))
        product = product.to(product_dtype(scale.dtype))
        return scale_rows(product, scale, self._bias(product.dtype))

    def _bias(self, dtype: torch.dtype) -> Tensor | None:
        if dtype not in self._biases:
            self._biases[dtype] = None if self.bias is None else self.bias.to(dtype)
        return self._biases[dtype]

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(*self.codes(x))
