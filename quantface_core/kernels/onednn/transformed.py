"""3x3 convolutions of few-bit codes in fewer products, by transforms that leave the same sums to the bit.

Windows of codes and the kernel are transformed along rows and columns, multiplied number by number, and transformed
back to 2x2 sums: by Winograd's F(2x2, 3x3) in 16 products where a convolution takes 36; where pixels are doubled, in 9
where the four phases of `kernels/doubling.py` take 16. Transforms make numbers larger, which floats pay for with
precision, and for which full 8-bit codes have no room. 4-bit codes have: windows grow 4 times (to 28), kernels 9
times (to 63), and both are bytes still.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..quantize import largest_code

_OFFSET = 64  # added to what may be negative, for a byte to hold it
_WINDOWS = 1024  # at once: their products stay in the cache
_FEWEST = 64  # windows for which reading more weights pays
_CHANNELS, _LEAST = 192, 5 << 22  # in and out, and windows of all pairs of them, from which the transforms pay


def fits(shape: tuple[int, ...], w_bits: int, x_bits: int, stride: tuple[int, int]) -> bool:
    """Whether a kernel [O, C, kh, kw] can be transformed, exactly, and has the channels for it to pay."""
    w, x, (outputs, channels, *taps) = largest_code(w_bits), largest_code(x_bits), shape
    if taps != [3, 3] or stride != (1, 1) or min(outputs, channels) < _CHANNELS:
        return False
    # Windows and kernels in bytes; Winograd's sums of sums, on their way, whole numbers in float32.
    return 4 * x < _OFFSET and 9 * w < 128 and 128 * x * w * channels < 1 << 24


class Transformed(ABC):
    """Codes [H + 2, W + 2, C] uint8, padded -> the product of a kernel that `fits`; one scale an image."""

    lines: int  # of codes in a window
    step: int  # from window to window
    half: float  # of a product, in either dimension, where the kernel is doubled to stay whole

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None, zero: int) -> None:
        """codes: the weight's, int8 [O, C, 3, 3]; scale and bias: [O] float32; zero: the activations' zero point."""
        taps = codes.permute(2, 3, 0, 1).contiguous()  # each tap's numbers side by side: transforms are quick so
        self.weights = [
            [torch.ops.onednn.qlinear_prepack(point, None) for point in self.kernel(row.unbind())]
            for row in self.kernel(taps.unbind())
        ]
        self.scale, self.bias, self.zero = scale * self.half, bias, zero
        self.halves = torch.full_like(scale, self.half)
        self.none = torch.zeros_like(scale, dtype=torch.int64)

    @staticmethod
    @abstractmethod
    def kernel(taps: Sequence[Tensor]) -> list[Tensor]:
        """A kernel's three taps along a dimension, transformed."""

    @staticmethod
    @abstractmethod
    def codes(lines: Sequence[Tensor]) -> list[Tensor]:
        """A window's codes along a dimension, transformed; around the zero points that `zeros` tells."""

    @staticmethod
    @abstractmethod
    def zeros(zero: int) -> list[int]:
        """The zero points of transformed codes, from that of the codes."""

    @staticmethod
    @abstractmethod
    def back(points: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Two sums from a dimension's products, which are overwritten."""

    @classmethod
    def pays(cls, padded: Tensor, outputs: int) -> bool:
        """Whether padded codes fall into whole windows, and into enough of them."""
        (height, width), channels = cls._windows(padded), padded.shape[2]
        whole = all((side - 2) % cls.step == 0 for side in padded.shape[:2])
        return whole and height * width >= _FEWEST and height * width * channels * outputs >= _LEAST

    @classmethod
    def _windows(cls, padded: Tensor) -> tuple[int, int]:
        return (len(padded) - 2) // cls.step, (padded.shape[1] - 2) // cls.step

    def __call__(self, padded: Tensor, scale: Tensor, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
        """The product in `dtype`, two rows and columns a window, written to `out` where one is given."""
        height, width = self._windows(padded)
        scales = self.scale * scale.flatten()
        out = torch.empty(2 * height, 2 * width, len(scales), dtype=dtype) if out is None else out
        rows = max(1, _WINDOWS // width)
        for start in range(0, height, rows):
            end = min(start + rows, height)
            read = padded[start * self.step : (end - 1) * self.step + self.lines]
            for row, sums in enumerate(self._sums(read)):
                for column, y in enumerate(sums):
                    y.mul_(scales)
                    if self.bias is not None:
                        y.add_(self.bias)
                    place = out[2 * start + row : 2 * end : 2, column::2]
                    place.copy_(y.view(place.shape))
        return out

    def _sums(self, padded: Tensor) -> list[list[Tensor]]:
        """The sums of even and odd rows, and in each of even and odd columns: [windows, O] float32."""
        rows = zip(self.codes(self._lines(padded, 0)), self.zeros(self.zero), self.weights, strict=True)
        halves = [self._row(*row) for row in rows]
        columns = [self.back([half[column] for half in halves]) for column in (0, 1)]
        return [[column[row] for column in columns] for row in (0, 1)]

    def _row(self, codes: Tensor, zero: int, weights: list[Any]) -> tuple[Tensor, Tensor]:
        """One row of the transformed windows, multiplied, and its columns transformed back."""
        points = zip(self.codes(self._lines(codes, 1)), self.zeros(zero), weights, strict=True)
        return self.back([self._product(*point) for point in points])

    def _lines(self, codes: Tensor, dim: int) -> list[Tensor]:
        """The first to last line of every window along a dimension."""
        reach = codes.shape[dim] - self.lines + 1
        every = (slice(None),) * dim + (slice(None, None, self.step),)
        return [codes.narrow(dim, line, reach)[every] for line in range(self.lines)]

    def _product(self, x: Tensor, zero: int, weight: Any) -> Tensor:
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            x.reshape(-1, x.shape[2]), 1.0, zero, weight, self.halves, self.none,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return y


class Winograd(Transformed):
    """The convolution, by F(2x2, 3x3)."""

    lines, step, half = 4, 2, 0.5

    @staticmethod
    def kernel(taps: Sequence[Tensor]) -> list[Tensor]:
        first, second, third = taps
        return [2 * first, first + second + third, first - second + third, 2 * third]

    @staticmethod
    def codes(lines: Sequence[Tensor]) -> list[Tensor]:
        first, second, third, fourth = lines
        return [_less(first, third), second + third, _less(third, second), _less(second, fourth)]

    @staticmethod
    def zeros(zero: int) -> list[int]:
        return [_OFFSET, 2 * zero, _OFFSET, _OFFSET]

    @staticmethod
    def back(points: list[Tensor]) -> tuple[Tensor, Tensor]:
        first, second, third, fourth = points
        return first.add_(second).add_(third), second.sub_(third).sub_(fourth)


class Doubled(Transformed):
    """The convolution of a picture whose pixels are doubled (nearest neighbour), from the picture itself.

    Between taps a, b, c and pixels p, q, r, the two new pixels of q are a p + (b + c) q and (a + b) q + c r: what
    both have in common, (a + b + c) q, is multiplied once.
    """

    lines, step, half = 3, 1, 1.0

    @staticmethod
    def kernel(taps: Sequence[Tensor]) -> list[Tensor]:
        first, second, third = taps
        return [first, first + second + third, third]

    @staticmethod
    def codes(lines: Sequence[Tensor]) -> list[Tensor]:
        first, second, third = lines
        return [_less(first, second), second, _less(third, second)]

    @staticmethod
    def zeros(zero: int) -> list[int]:
        return [_OFFSET, zero, _OFFSET]

    @staticmethod
    def back(points: list[Tensor]) -> tuple[Tensor, Tensor]:
        first, second, third = points
        return first.add_(second), third.add_(second)


def _less(x: Tensor, y: Tensor) -> Tensor:
    """x - y around `_OFFSET`, in unsigned bytes."""
    return torch.add(x, _OFFSET).sub_(y)
