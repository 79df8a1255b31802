"""The integer product of rows, for linears, columns of pixels and the points of transformed windows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def known() -> bool:
    """Whether this torch's products are called as below: before 2.4 they take other arguments, and cannot add."""
    product = getattr(torch.ops.onednn, "qlinear_pointwise", None)
    return product is not None and "binary" in product.overloads()


class Rows:
    """Codes [N, K] uint8 times a prepacked weight [O, K]."""

    def __init__(self, weight: Tensor) -> None:
        """weight: [O, K] int8."""
        self.weight: Any = torch.ops.onednn.qlinear_prepack(weight.contiguous(), None)
        self.zeros = weight.new_zeros(len(weight), dtype=torch.int64)

    def __call__(
        self, codes: Tensor, zero: int, scale: Tensor, dtype: torch.dtype, bias: Tensor | None = None
    ) -> Tensor:
        """The product [N, O] in the dtype, of codes around a zero point; scale and bias: [O] float32."""
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            codes, 1.0, zero, self.weight, scale, self.zeros, bias, 1.0, 0, dtype, "none", [], "",
        )  # fmt: skip
        return product

    def add(self, codes: Tensor, zero: int, scale: Tensor, into: Tensor) -> Tensor:
        """As a call, but added to `into` [N, O] float32, at no extra pass over it."""
        # By keyword: their order is not the same in every torch.
        total: Tensor = torch.ops.onednn.qlinear_pointwise.binary(
            codes, 1.0, zero, self.weight, scale, self.zeros, other=into, bias=None, output_scale=1.0,
            output_zero_point=0, output_dtype=torch.float32, other_scale=1.0, other_zp=0, binary_post_op="sum",
            binary_alpha=1.0, unary_post_op="none", unary_post_op_args=[], unary_post_op_algorithm="",
        )  # fmt: skip
        return total
