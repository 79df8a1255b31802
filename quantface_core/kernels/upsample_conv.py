"""A 3x3 convolution over a 2x upsampled map (nearest neighbour), as four 2x2 convolutions over the map itself.

Upsampling makes two of a 3x3 kernel's three rows, and two of its columns, read the same pixel. Which two depends on
the output's row and column being even or odd: four phases, each with a 2x2 kernel of summed weights. That is 4/9 of
the products and a quarter of the pixels; with integers, the same result to the bit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def phase_kernels(weight: Tensor) -> list[Tensor]:
    """[O, C, 3, 3] -> four [O, C, 2, 2] in its dtype: even rows, then odd, each with even columns, then odd."""
    return [_fold(_fold(weight, 2, row), 3, column) for row in (0, 1) for column in (0, 1)]


def _fold(weight: Tensor, dim: int, odd: int) -> Tensor:
    first, second, third = weight.unbind(dim)
    return torch.stack([first + second, third] if odd else [first, second + third], dim)


def window(padded: Tensor, phase: int) -> Tensor:
    """What a phase reads of a map padded by one pixel: [H + 2, W + 2, C] -> [H + 1, W + 1, C]."""
    row, column = divmod(phase, 2)
    return padded[row : len(padded) - 1 + row, column : padded.shape[1] - 1 + column]


def phases(doubled: Tensor) -> list[Tensor]:
    """The four phases of an upsampled map, as views to write to: [2 H, 2 W, O] -> four [H, W, O]."""
    return [doubled[row::2, column::2] for row in (0, 1) for column in (0, 1)]


def doubled_conv2d(x: Tensor, kernels: list[Tensor]) -> Tensor:
    """A convolution, padded by one, of x [B, C, H, W] upsampled 2x, by the `phase_kernels` of a float weight.

    -> [B, O, 2 H, 2 W], channels last.
    """
    batch, _, height, width = x.shape
    out = x.new_empty(batch, 2 * height, 2 * width, len(kernels[0]))
    for row, column, kernel in zip((0, 0, 1, 1), (0, 1, 0, 1), kernels, strict=True):
        part = F.conv2d(x, kernel, None, 1, 1)[:, :, row : row + height, column : column + width]
        out[:, row::2, column::2] = part.permute(0, 2, 3, 1)
    return out.permute(0, 3, 1, 2)
