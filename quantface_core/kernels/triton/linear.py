"""Low-bit linears on tensor cores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backend import LinearSpec
from ..bias import Bias
from ..fusion import LinearFusion, StoredBranch
from ..reference import product_dtype
from ..weight import LowBitWeight
from ..weight_cache import CachedWeight
from .branch import Branch
from .product import Epilogue, linear_product
from .rotation import rotates
from .tokens import Tokens, rounded_tokens
from .unpack import unpacked

PLAIN = LinearFusion()


class Linear:
    """As `reference.Linear`, and `fusion.FusedLinear`."""

    def __init__(self, spec: LinearSpec) -> None:
        self.weight, self.scale, self.bias = spec.weight, spec.weight.scale.float(), Bias(spec.bias)
        self.activations, self.transform = spec.activations, spec.transform
        self.branch: Branch | None = None
        self.unpacked = CachedWeight(partial(unpacked, spec.weight))
        self._stacks: dict[int, _Stack] = {}  # by how many layers are stacked with this one

    def take_branch(self, stored: StoredBranch) -> None:
        """See `fusion.FusedLinear`."""
        self.branch = Branch(stored)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [N, K] and per-token scales [N, 1] in the dtype of x."""
        return self.rounded(x, PLAIN, None)[:2]

    def rounded(self, x: Tensor, fusion: LinearFusion, down: Tensor | None) -> Tokens:
        """Codes of x [N, K] after the fused ops before the layer; with down [r, K] of a branch, its result too."""
        transform = self.transform
        if transform is None or rotates(transform, x.dtype):
            return rounded_tokens(x, self.activations, transform, down, fusion.norm, fusion.gated)
        if fusion.gated:  # the block is larger than a tile: what precedes it runs in plain torch
            values, gates = x.chunk(2, -1)
            x = values * F.gelu(gates)
        if fusion.norm:
            x = F.layer_norm(x, x.shape[-1:], fusion.norm.weight, fusion.norm.bias, fusion.norm.eps)
        return rounded_tokens(transform(x), self.activations, None, down)

    def product(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The layer's result [N, O] from codes and scales, in the dtype of the scales; without its branch."""
        return linear_product(codes, self.unpacked(), self.scale, scale, self.bias(product_dtype(scale.dtype)))

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(*self.codes(x))

    def fused(self, x: Tensor, fusion: LinearFusion, others: tuple[Any, ...] = ()) -> list[Tensor]:
        """See `fusion.FusedLinear`: one product for all the layers."""
        stack = self._stacks.get(len(others))
        if stack is None or stack.others != others:  # prepared anew: the old ones must not stay in memory
            stack = self._stacks[len(others)] = _Stack(self, others)
        y = stack(self, x, fusion)
        return [y] if not others else list(y.split(stack.outputs, 1))


class _Stack:
    """Layers that read the same codes, stacked into one with all their outputs; their branches are block-diagonal.

    The first of them is passed at each call: it holds this, and a cycle would outlive their model's unloading.
    """

    def __init__(self, first: Linear, others: tuple[Linear, ...]) -> None:
        self.others, layers = others, (first, *others)
        self.outputs = [layer.weight.shape[0] for layer in layers]
        self.scale = torch.cat([layer.scale for layer in layers]) if others else first.scale
        weights = [layer.weight for layer in layers]
        self._weight = CachedWeight(partial(_stacked, weights)) if others else first.unpacked
        self._made: dict[torch.dtype, tuple[Tensor | None, Tensor | None, Tensor | None]] = {}

    def __call__(self, first: Linear, x: Tensor, fusion: LinearFusion) -> Tensor:
        down, up, bias = self._tensors(first, x.dtype)
        codes, scales, low = first.rounded(x, fusion, down)
        skip = None if fusion.skip is None else fusion.skip.contiguous()
        return linear_product(codes, self._weight(), self.scale, scales, bias, Epilogue(low, up, skip=skip))

    def _tensors(self, first: Linear, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """All branches' down [r, K] and up [r, O], and all biases [O]; None where no layer has any."""
        if dtype not in self._made:
            layers = (first, *self.others)
            branches = [layer.branch for layer in layers]
            down = up = bias = None
            if any(branches):
                down = torch.cat([b.down(dtype) for b in branches if b])
                rows = [b.up(dtype) if b else self.scale.new_zeros(0, n, dtype=dtype)
                        for b, n in zip(branches, self.outputs, strict=True)]  # fmt: skip
                up = torch.block_diag(*rows)
            biases = [layer.bias(product_dtype(dtype)) for layer in layers]
            if any(b is not None for b in biases):
                none = [self.scale.new_zeros(n, dtype=product_dtype(dtype)) for n in self.outputs]
                bias = torch.cat([n if b is None else b for b, n in zip(biases, none, strict=True)])
            self._made[dtype] = down, up, bias
        return self._made[dtype]


def _stacked(weights: Sequence[LowBitWeight]) -> Tensor:
    """The codes of linears with equal inputs, one below the other: [sum of their O, K] int8."""
    outputs = [weight.shape[0] for weight in weights]
    codes = torch.empty(sum(outputs), weights[0].shape[1], dtype=torch.int8, device=weights[0].packed.device)
    for weight, rows in zip(weights, codes.split(outputs), strict=True):
        unpacked(weight, rows)
    return codes
