"""Low-bit linears by oneDNN's integer product."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backend import LinearSpec
from ..bias import Bias
from ..quantize import byte_of_zero, per_token_scale
from ..reference import product_dtype, scale_rows
from .codes import pieces, write_dtype, write_token_codes
from .rows import Rows


class Linear:
    """As `reference.Linear`."""

    def __init__(self, spec: LinearSpec) -> None:
        self.activations, self.transform = spec.activations, spec.transform
        self.zero = byte_of_zero(spec.activations.bits, spec.activations.zero_point)
        self.rows, self.scale, self.bias = Rows(spec.weight.codes()), spec.weight.scale.float(), Bias(spec.bias)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes uint8 [N, K], offset by `zero`, and per-token scales [N, 1] in the dtype of x."""
        codes = x.new_empty(x.shape, dtype=torch.uint8)
        scales = x.new_empty(len(x), 1)
        for piece in pieces(x):
            balanced = self.transform(x[piece]) if self.transform else x[piece]
            scales[piece] = per_token_scale(balanced, *self.activations)
            write_token_codes(balanced, scales[piece], self.activations, codes[piece])
        return codes, scales

    def product(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The layer's result [N, O] from codes and scales, in the dtype of the scales."""
        product = self.rows(codes, self.zero, self.scale, write_dtype(scale))
        product = product.to(product_dtype(scale.dtype))
        return scale_rows(product, scale, self.bias(product.dtype))

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(*self.codes(x))
