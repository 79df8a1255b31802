"""3x3 convolutions of few-bit codes by Winograd's F(2x2, 3x3): 4/9 of the products, and the same sums to the bit.

A kernel and windows of 4x4 codes are transformed, multiplied number by number, and transformed back to 2x2 sums: 16
products in the place of 36. Transforms make numbers larger, which floats pay for with precision and full 8-bit codes
have no room for. 4-bit codes have: windows grow 4 times (to 28), kernels 9 times (to 63; their halves are kept whole by
doubling), and both are bytes still.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..quantize import largest_code

_OFFSET = 64  # added to what may be negative, for a byte to hold it
_TILES = 1024  # windows at once: their products stay in the cache
_FEWEST = 64  # windows for which reading 16/9 of the weights pays
_CHANNELS, _LEAST = 192, 5 << 22  # in and out, and windows of all pairs of them, from which the transforms pay


def fits(shape: tuple[int, ...], w_bits: int, x_bits: int, stride: tuple[int, int]) -> bool:
    """Whether a kernel [O, C, kh, kw] can be transformed, exactly, and has the channels for it to pay."""
    w, x, (outputs, channels, *taps) = largest_code(w_bits), largest_code(x_bits), shape
    if taps != [3, 3] or stride != (1, 1) or min(outputs, channels) < _CHANNELS:
        return False
    # Windows and kernels in bytes; sums of sums, on their way, whole numbers in float32.
    return 4 * x < _OFFSET and 9 * w < 128 and 4 * x * 64 * w * channels < 1 << 24


def pays(padded: Tensor, outputs: int) -> bool:
    """Whether padded codes [H + 2, W + 2, C] fall into whole windows, and into enough of them."""
    height, width, channels = len(padded) - 2, padded.shape[1] - 2, padded.shape[2]
    windows = height * width // 4
    return height % 2 == width % 2 == 0 and windows >= _FEWEST and windows * channels * outputs >= _LEAST


class Winograd:
    """As `Product`, of a kernel that `fits` and codes for which it `pays`."""

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None, zero: int) -> None:
        """codes: the weight's, int8 [O, C, 3, 3]; scale and bias: [O] float32; zero: the activations' zero point."""
        rows = _transformed_kernel(codes.to(torch.int8).unbind(2))
        self.weights = [
            [torch.ops.onednn.qlinear_prepack(point.contiguous(), None) for point in _transformed_kernel(row.unbind(2))]
            for row in rows
        ]
        self.scale, self.bias = scale / 4, bias  # the kernel was doubled twice
        self.zeros = _zero_points(zero)
        self.ones, self.none = torch.ones(len(scale)), torch.zeros(len(scale), dtype=torch.int64)

    def __call__(self, padded: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        """The product in `dtype`, [H, W, O]."""
        height, width = len(padded) - 2, padded.shape[1] - 2
        scales = self.scale * scale.flatten()
        out = torch.empty(height, width, len(scales), dtype=dtype)
        step = 2 * max(1, 2 * _TILES // width)
        for start in range(0, height, step):
            end = min(start + step, height)
            for row, sums in enumerate(self._sums(padded[start : end + 2])):
                for column, y in enumerate(sums):
                    y.mul_(scales)
                    if self.bias is not None:
                        y.add_(self.bias)
                    place = out[start + row : end : 2, column::2]
                    place.copy_(y.view(place.shape))
        return out

    def _sums(self, padded: Tensor) -> list[list[Tensor]]:
        """Four times the sums of even and odd rows, and in each of even and odd columns: [tiles, O] float32."""
        rows = zip(_transformed_codes(_windows(padded, 0)), self.zeros, self.weights, strict=True)
        halves = [self._row(*row) for row in rows]
        columns = [_transformed_back([half[column] for half in halves]) for column in (0, 1)]
        return [[column[row] for column in columns] for row in (0, 1)]

    def _row(self, codes: Tensor, zero: int, weights: list[Any]) -> tuple[Tensor, Tensor]:
        """One row of the transformed windows, multiplied, and its columns transformed back."""
        points = zip(_transformed_codes(_windows(codes, 1)), _zero_points(zero), weights, strict=True)
        return _transformed_back([self._product(*point) for point in points])

    def _product(self, x: Tensor, zero: int, weight: Any) -> Tensor:
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            x.view(-1, x.shape[2]), 1.0, zero, weight, self.ones, self.none,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return y


def _windows(codes: Tensor, dim: int) -> list[Tensor]:
    """The first to fourth number of every window along a dimension; windows begin at every other number."""
    pairs = codes.shape[dim] // 2 - 1
    return [codes.narrow(dim, i, 2 * pairs - 1)[(slice(None),) * dim + (slice(None, None, 2),)] for i in range(4)]


def _transformed_codes(lines: list[Tensor]) -> list[Tensor]:
    """Of four unsigned bytes around a zero point, the four of B, around those of `_zero_points`."""
    first, second, third, fourth = lines
    return [
        torch.add(first, _OFFSET).sub_(third),
        second + third,
        torch.add(third, _OFFSET).sub_(second),
        torch.add(second, _OFFSET).sub_(fourth),
    ]


def _zero_points(zero: int) -> list[int]:
    return [_OFFSET, 2 * zero, _OFFSET, _OFFSET]


def _transformed_kernel(taps: tuple[Tensor, ...]) -> list[Tensor]:
    """Twice G of three taps."""
    first, second, third = taps
    return [2 * first, first + second + third, first - second + third, 2 * third]


def _transformed_back(points: list[Tensor]) -> tuple[Tensor, Tensor]:
    """A of four points, in place."""
    first, second, third, fourth = points
    return first.add_(second).add_(third), second.sub_(third).sub_(fourth)
