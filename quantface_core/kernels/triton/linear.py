"""Low-bit linears on tensor cores."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..channel_transform import ChannelTransform
from ..fusion import LinearFusion, StoredBranch
from ..weight import LowBitWeight
from ..weight_cache import can_cache_weights
from .branch import Branch
from .product import Epilogue, linear_product
from .rotation import rotates
from .tokens import Tokens, rounded_tokens
from .unpack import UnpackedWeight, unpacked

PLAIN = LinearFusion()


class Linear:
    """As `reference.Linear`, and `fusion.FusedLinear`."""

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
        self.bias, self.transform = bias, transform
        self.weight, self.scale = weight, weight.scale.float()
        self.branch: Branch | None = None
        self._unpacked = UnpackedWeight(weight)
        self._biases: dict[torch.dtype, Tensor | None] = {}
        self._stacks: dict[tuple[Linear, ...], _Stack] = {}  # by the layers beside this one

    def take_branch(self, stored: StoredBranch) -> None:
        """See `fusion.FusedLinear`."""
        self.branch = Branch(stored)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activation codes int8 [N, K] and per-token scales [N, 1] in the dtype of x."""
        return self.rounded(x, PLAIN, None)[:2]

    def rounded(self, x: Tensor, fusion: LinearFusion, down: Tensor | None) -> Tokens:
        """x [N, K] after what is before the layer, as codes; down [r, K] of a branch."""
        transform, rounding = self.transform, (self.activation_bits, self.clip, self.zero_point)
        if transform is None or rotates(transform):
            return rounded_tokens(x, *rounding, transform, down, fusion.norm, fusion.gated)
        if fusion.gated:  # by a block that no tile has room for, after what is plain torch's
            values, gates = x.chunk(2, -1)
            x = values * F.gelu(gates)
        if fusion.norm:
            x = F.layer_norm(x, x.shape[-1:], fusion.norm.weight, fusion.norm.bias, fusion.norm.eps)
        return rounded_tokens(transform(x), *rounding, None, down)

    def product(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The layer's result [N, O] from codes and scales, in the dtype of the scales; without its branch."""
        return linear_product(codes, self._unpacked(), self.scale, scale, self.bias_in(scale.dtype))

    def bias_in(self, dtype: torch.dtype) -> Tensor | None:
        if dtype not in self._biases:
            self._biases[dtype] = None if self.bias is None else self.bias.to(dtype)
        return self._biases[dtype]

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(*self.codes(x))

    def fused(self, x: Tensor, fusion: LinearFusion, others: tuple[Any, ...] = ()) -> list[Tensor]:
        """See `fusion.FusedLinear`: one product for all the layers."""
        if others not in self._stacks:
            self._stacks[others] = _Stack(self, others)
        stack = self._stacks[others]
        y = stack(self, x, fusion)
        return [y] if not others else list(y.split(stack.outputs, 1))


class _Stack:
    """Layers that read the same codes as one of all their outputs; their branches as one, zero where others are.

    The first of them is given at each call: it keeps this, and a cycle would keep both beyond their model's unloading.
    """

    def __init__(self, first: Linear, others: tuple[Linear, ...]) -> None:
        self._others, layers = others, (first, *others)
        self.outputs = [layer.weight.shape[0] for layer in layers]
        self.scale = torch.cat([layer.scale for layer in layers]) if len(layers) > 1 else layers[0].scale
        self._codes: Tensor | None = None
        self._made: dict[torch.dtype, tuple[Tensor | None, Tensor | None, Tensor | None]] = {}
        self._keeps: bool | None = None

    def __call__(self, first: Linear, x: Tensor, fusion: LinearFusion) -> Tensor:
        down, up, bias = self._tensors(first, x.dtype)
        codes, scales, low = first.rounded(x, fusion, down)
        skip = None if fusion.skip is None else fusion.skip.contiguous()
        return linear_product(codes, self._weight(first), self.scale, scales, bias, Epilogue(low, up, skip=skip))

    def _weight(self, first: Linear) -> Tensor:
        if not self._others:
            return first._unpacked()
        if self._codes is not None:
            return self._codes
        weights = [layer.weight for layer in (first, *self._others)]
        codes = torch.empty(sum(self.outputs), weights[0].shape[1], dtype=torch.int8, device=weights[0].packed.device)
        for weight, rows in zip(weights, codes.split(self.outputs), strict=True):
            unpacked(weight, rows)
        if self._keeps is None:  # as `unpack.UnpackedWeight`
            self._keeps = can_cache_weights(codes.device)
        self._codes = codes if self._keeps else None
        return codes

    def _tensors(self, first: Linear, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """All branches' down [r, K] and up [r, O], and all biases [O]."""
        if dtype not in self._made:
            layers = (first, *self._others)
            branches = [layer.branch for layer in layers]
            down = up = bias = None
            if any(branches):
                down = torch.cat([b.down(dtype) for b in branches if b])
                rows = [b.up(dtype) if b else self.scale.new_zeros(0, n, dtype=dtype)
                        for b, n in zip(branches, self.outputs, strict=True)]  # fmt: skip
                up = torch.block_diag(*rows)
            if any(layer.bias is not None for layer in layers):
                biases = [layer.bias_in(dtype) for layer in layers]
                none = [self.scale.new_zeros(n, dtype=dtype) for n in self.outputs]
                bias = torch.cat([n if b is None else b for b, n in zip(biases, none, strict=True)])
            self._made[dtype] = down, up, bias
        return self._made[dtype]
