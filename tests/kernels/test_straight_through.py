"""What training sees of the rounding: the values that inference has, and gradients that it can learn from."""

from __future__ import annotations

import pytest
import torch

from quantface_core.kernels.quantize import code_range, dequantize, quantize
from quantface_core.kernels.straight_through import fake_quantize

BITS = 4
SCALE = torch.tensor(0.25)


@pytest.mark.parametrize("zero_point", [None, 2])
@pytest.mark.parametrize("clip", [None, 0.75])
def test_values_are_those_of_the_codes_and_gradients_pass_where_nothing_is_clipped(
    clip: float | None, zero_point: int | None
) -> None:
    x = torch.linspace(-5, 5, 101, requires_grad=True)
    learned = None if clip is None else torch.tensor(clip, requires_grad=True)
    rounded = fake_quantize(x, SCALE, BITS, learned, zero_point)
    scale = SCALE * (clip or 1)
    torch.testing.assert_close(rounded, dequantize(quantize(x.detach(), scale, BITS, zero_point), scale))
    rounded.sum().backward()
    lowest, highest = code_range(BITS, zero_point)
    steps = x.detach() / scale
    assert torch.equal(x.grad, ((steps >= lowest - 0.5) & (steps <= highest + 0.5)).float())


def test_the_clips_gradient_is_the_slope_between_rounding_boundaries() -> None:
    """Values in range are rounded to the same codes by a clip a little larger; those outside move with it."""
    x = torch.tensor([-9.0, -0.3, 0.1, 0.8, 9.0])
    clip = torch.tensor(0.9, requires_grad=True)
    rounded = fake_quantize(x, SCALE, BITS, clip)
    step = 1e-3
    larger, smaller = (fake_quantize(x, SCALE, BITS, clip.detach() + by) for by in (step, -step))
    slope = (larger - smaller) / (2 * step)
    straight_through = torch.where(x.abs() < 5, -x / 0.9, 0)  # the slope that rounding is taken to have in x / clip
    for i in range(len(x)):
        (gradient,) = torch.autograd.grad(rounded[i], clip, retain_graph=True)
        torch.testing.assert_close(gradient, slope[i] + straight_through[i], rtol=1e-3, atol=1e-3)


def test_without_a_clip_the_scale_takes_no_gradient() -> None:
    x, scale = torch.randn(5, requires_grad=True), SCALE.clone().requires_grad_()
    fake_quantize(x, scale, BITS).sum().backward()
    assert scale.grad is None
