"""Rounding that gradients pass through: a quantizer as training sees it (DESIGN.md section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .quantize import code_range


class _FakeQuantize(torch.autograd.Function):
    """Values of codes. Gradients pass where nothing was clipped; the scale's is LSQ's, for learned clips."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, lowest: int, highest: int) -> Tensor:
        steps = x / scale
        kept = (steps >= lowest - 0.5) & (steps <= highest + 0.5)
        codes = steps.round().clamp_(lowest, highest)
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(kept, codes - torch.where(kept, steps, 0))
        else:
            ctx.save_for_backward(kept)
        return codes.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        (gradient,) = gradients
        kept, *by_scale = ctx.saved_tensors
        to_scale = (gradient * by_scale[0]).sum() if by_scale else None
        return gradient * kept, to_scale, None, None


def fake_quantize(
    x: Tensor, scale: Tensor, bits: int, clip: Tensor | None = None, zero_point: int | None = None
) -> Tensor:
    """x rounded to `bits` as `quantize` then `dequantize` would; in the dtype of x.

    `scale` broadcasts against x and takes no gradient; `clip`, a scalar that multiplies it, does.
    """
    lowest, highest = code_range(bits, zero_point)
    if clip is None:
        return _FakeQuantize.apply(x, scale.detach().to(x.dtype), lowest, highest)
    # With the scale's own size taken out, the clip's gradient is a plain sum.
    unit = (x / scale.detach()).to(x.dtype)
    return _FakeQuantize.apply(unit, clip.to(x.dtype), lowest, highest) * scale.detach().to(x.dtype)
