"""Input gradients of a frozen low-bit layer: those of a float layer with its dequantized weight.

Rounding passes gradients through unchanged (straight-through); the integers get none: to train, see `trainable.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def needs_gradient(x: Tensor) -> bool:
    """Whether autograd would record what is computed from x."""
    return torch.is_grad_enabled() and x.requires_grad


def with_input_gradient(
    compute: Callable[[Tensor], Tensor], gradient: Callable[[Tensor, torch.Size], Tensor], x: Tensor
) -> Tensor:
    """compute(x), not recorded by autograd; `gradient(output_gradient, x.shape)` returns the gradient of x."""
    made: Tensor = _InputGradient.apply(x, compute, gradient)
    return made


class _InputGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, compute: Callable[[Tensor], Tensor], gradient: Callable[[Tensor, torch.Size], Tensor]
    ) -> Tensor:
        ctx.gradient, ctx.shape = gradient, x.shape
        return compute(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradient(gradients[0], ctx.shape), None, None
