"""Low-rank branches in forms that fill a tile."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.kernels.triton.draws import SHAPES, Draw, maps

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels.triton.branch import Branch


@pytest.mark.parametrize("shape", ["even", "odd", "halved", "point", "upsampled"])
def test_grouped_pixels_equal_a_plain_convolution(shape: str) -> None:
    """Four pixels' numbers at once are those of each, whatever their order in memory."""
    kernel, stride, padding, sides = SHAPES[shape]
    draw = Draw(2)
    x, down = maps(draw.eighths(2, *sides, 32)), draw.powers(4, 32, *kernel)
    up = draw.powers(8, 4)
    low, grouped = Branch(lambda: (down, up)).low(x, stride, padding, shape == "upsampled")
    read = F.interpolate(x, scale_factor=2.0, mode="nearest") if shape == "upsampled" else x
    expected = F.conv2d(read, down, None, stride, padding)
    assert grouped == (shape in ("even", "upsampled"))
    if grouped:
        batch, high, wide, _ = low.shape
        low = low.view(batch, high, wide, 2, 2, 4).permute(0, 1, 3, 2, 4, 5).reshape(batch, 2 * high, 2 * wide, 4)
    assert torch.equal(maps(low), expected)
