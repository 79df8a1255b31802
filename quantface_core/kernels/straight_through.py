"""Fake quantization with straight-through gradients, for training (docs/method.md, section 4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .quantize import code_range


class _FakeQuantize(torch.autograd.Function):
    """Codes times scale. Gradients pass where x was not clipped; the scale's is that of LSQ, for learned clips."""

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
    """x rounded to `bits` as by `quantize` and `dequantize`, in the dtype of x.

    `scale` broadcasts against x and takes no gradient; `clip`, a scalar factor of the scale, does.
    """
    lowest, highest = code_range(bits, zero_point)
    if clip is None:
        return _FakeQuantize.apply(x, scale.detach().to(x.dtype), lowest, highest)
    # With x divided by the scale first, the clip's gradient is a plain sum.
    unit = (x / scale.detach()).to(x.dtype)
    return _FakeQuantize.apply(unit, clip.to(x.dtype), lowest, highest) * scale.detach().to(x.dtype)
