"""3x3 convolutions of low-bit codes in fewer products, by transforms that leave the same sums to the bit.

Windows of codes and the kernel are transformed along rows and columns, multiplied element by element, and transformed
back to 2x2 sums: by Winograd's F(2x2, 3x3) in 16 products where a convolution takes 36; for 2x upsampled inputs in 9
where the four phases of `kernels/upsample_conv.py` take 16. Transforms enlarge values, which costs floats precision,
and for which full 8-bit codes have no headroom. Codes of up to 6 bits do: windows grow 4 times, to 252, and still fit
a byte. Kernels grow up to 9 times, to 63 at 4 bits and 279 at 6: their few values that exceed int8 are multiplied
separately (`Point`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ..quantize import byte_of_zero, largest_code, largest_magnitude
from .matrix_units import has_matrix_units
from .point import Point
from .saturation import BYTE, exact, saturates

_OFFSETS = 64, 128  # added to what may be negative, so that it fits a byte: along rows, then columns
_SPILL = 1 / 8  # largest share of channels that may have values beyond int8
_EXACT = 1 << 24  # up to here float32 has every integer

Form = TypeVar("Form", bound="WinogradBase")
Line = Callable[[int], Tensor]
_WINDOWS = 1024  # multiplied at once: their products stay in the cache
_FEWEST = 64  # least windows for which reading the larger kernel pays
# Channels in and out, and windows times channels in times channels out, from which the transforms pay: sooner where
# products saturate, because there they take several times as long.
_PAYS = {False: (192, 5 << 22), True: (128, 1 << 23)}


def fits(shape: tuple[int, ...], weight_bits: int, activation_bits: int, stride: tuple[int, int]) -> bool:
    """Whether a kernel [O, C, kh, kw] may have the headroom to be transformed, and enough channels to gain by it.

    Never on a CPU with matrix units: there the plain product is so fast that the transforms take longer than they save.
    """
    outputs, channels, *taps = shape
    if taps != [3, 3] or stride != (1, 1) or min(outputs, channels) < _PAYS[saturates()][0] or has_matrix_units():
        return False
    reach, byte = 9 * largest_code(weight_bits), largest_code(8)
    return 2 * ((1 << activation_bits) - 1) < _OFFSETS[1] and reach < 3 * byte and exact(BYTE, min(reach, byte))


class WinogradBase(ABC):
    """The product of padded codes [H + 2, W + 2, C] uint8 and a kernel that `fits`; one scale per image."""

    lines: int  # rows, and columns, of a window
    step: int  # from window to window
    scales: tuple[float, ...]  # per point of a dimension: undo what keeps the transformed kernel integer; and signs

    def __init__(self, points: list[list[Point]], scale: Tensor, bias: Tensor | None, zero: int) -> None:
        """points: of the transformed kernel; scale and bias: [O] float32; zero: the activations' zero point."""
        self.points, self.scale, self.bias, self.zero = points, scale, bias, zero

    @classmethod
    def of(
        cls: type[Form],
        codes: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        activation_bits: int,
        zero_point: int | None = None,
    ) -> Form | None:
        """Build from a kernel's codes [O, C, 3, 3] int8 and scale [O], for activations of a width; None = no room."""
        taps = codes.permute(2, 3, 0, 1).contiguous()  # each tap's values side by side, for fast transforms
        largest = largest_magnitude(activation_bits, zero_point)
        if largest * cls._reach(taps) > _EXACT:
            return None
        points = [
            [Point(point, down * across) for point, across in zip(cls.kernel(row.unbind()), cls.scales, strict=True)]
            for row, down in zip(cls.kernel(taps.short().unbind()), cls.scales, strict=True)
        ]
        every = [point for row in points for point in row]
        exact = all(4 * largest * point.largest_sum <= _EXACT for point in every)
        few = sum(point.outliers for point in every) <= _SPILL * len(every) * codes.shape[1]
        return cls(points, scale, bias, byte_of_zero(activation_bits, zero_point)) if exact and few else None

    @classmethod
    def _reach(cls, taps: Tensor) -> float:
        """A bound on the sums of the inverse transform, in units of their smallest step, per unit of the largest code.

        Along a dimension they, or a product, read taps a, b, c no more than (1, 1, 1), (2, 0, 0) or (0, 0, 2) times;
        by then, the smallest steps of the products have added up to steps twice as large. taps: [3, 3, O, C].
        """
        weight = taps.abs().sum(-1, dtype=torch.float64).movedim(-1, 0)
        reads = weight.new_tensor([[1, 1, 1], [2, 0, 0], [0, 0, 2]])
        return float((reads @ weight @ reads.t()).amax()) / min(map(abs, cls.scales))

    @staticmethod
    @abstractmethod
    def kernel(taps: Sequence[Tensor]) -> list[Tensor]:
        """A kernel's three taps along a dimension, transformed."""

    @staticmethod
    @abstractmethod
    def codes(line: Line, raised: Line) -> list[Tensor]:
        """A window's codes along a dimension, transformed, around the zero points that `zeros` returns.

        `raised` returns the same lines with an offset, so that what may be negative stays unsigned.
        """

    @staticmethod
    @abstractmethod
    def zeros(zero: int, offset: int) -> list[int]:
        """The zero points of transformed codes, from that of the codes and the offset of `raised`."""

    @staticmethod
    @abstractmethod
    def middle(points: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What a dimension's products, without the first and the last, add to its two sums; overwrites `points`.

        The first product belongs to one sum, the last to the other: they are added as they are computed.
        """

    @classmethod
    def pays(cls, padded: Tensor, outputs: int) -> bool:
        """Whether padded codes divide into whole windows, and into enough of them to pay."""
        (height, width), channels = cls._windows(padded), padded.shape[2]
        whole = all((side - 2) % cls.step == 0 for side in padded.shape[:2])
        return whole and height * width >= _FEWEST and height * width * channels * outputs >= _PAYS[saturates()][1]

    @classmethod
    def _windows(cls, padded: Tensor) -> tuple[int, int]:
        return (len(padded) - 2) // cls.step, (padded.shape[1] - 2) // cls.step

    def __call__(self, padded: Tensor, scale: Tensor, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
        """The product in `dtype`, two rows and columns per window, written to `out` where one is given."""
        height, width = self._windows(padded)
        scales = self.scale * scale.flatten()
        out = scales.new_empty(2 * height, 2 * width, len(scales), dtype=dtype) if out is None else out
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
        """The sums of even and odd rows, each of even and odd columns: [windows, O] float32."""
        codes, zeros = self._transform(padded, self.zero, 0)
        halves = [self._row(*row) for row in zip(codes, zeros, self.points, strict=True)]
        columns = []
        for first, *middle, last in zip(*halves, strict=True):
            even, odd = self.middle(middle)
            columns.append((even.add_(first), odd.add_(last)))
        return [list(row) for row in zip(*columns, strict=True)]

    def _row(self, codes: Tensor, zero: int, points: list[Point]) -> tuple[Tensor, Tensor]:
        """One row of the transformed windows, multiplied, and its columns transformed back."""
        columns, zeros = self._transform(codes, zero, 1)
        rows = (x.reshape(-1, x.shape[2]) for x in columns)
        (first, *middle, last), (opening, *between, closing) = points, zip(rows, zeros, strict=True)
        even, odd = self.middle([point(*read) for point, read in zip(middle, between, strict=True)])
        return first(*opening, even), last(*closing, odd)

    def _transform(self, codes: Tensor, zero: int, dim: int) -> tuple[list[Tensor], list[int]]:
        """Codes transformed along a dimension, and their zero points."""
        return self.codes(self._line(codes, dim), self._line(codes + _OFFSETS[dim], dim)), self.zeros(
            zero, _OFFSETS[dim]
        )

    def _line(self, codes: Tensor, dim: int) -> Line:
        """A function from n to the n-th line of every window along a dimension, as a view."""
        size, stride = list(codes.shape), list(codes.stride())
        size[dim] = (size[dim] - self.lines) // self.step + 1
        stride[dim] *= self.step
        return lambda number: codes.as_strided(size, stride, codes.storage_offset() + number * codes.stride(dim))


class Winograd(WinogradBase):
    """The convolution, by F(2x2, 3x3)."""

    lines, step, scales = 4, 2, (1.0, 0.5, 0.5, -1.0)

    @staticmethod
    def kernel(taps: Sequence[Tensor]) -> list[Tensor]:
        first, second, third = taps
        return [first, first + second + third, first - second + third, third]

    @staticmethod
    def codes(line: Line, raised: Line) -> list[Tensor]:
        second, third = line(1), line(2)
        return [raised(0) - third, second + third, raised(2) - second, raised(1) - line(3)]

    @staticmethod
    def zeros(zero: int, offset: int) -> list[int]:
        return [offset, 2 * zero, offset, offset]

    @staticmethod
    def middle(points: list[Tensor]) -> tuple[Tensor, Tensor]:
        even, second = points[0].add_(points[1]), points[1]
        return even, torch.sub(even, second, alpha=2, out=second)


class WinogradUpsample(WinogradBase):
    """The convolution of a 2x upsampled map (nearest neighbour), from the map itself.

    For taps a, b, c and pixels p, q, r, the two outputs at q are a p + (b + c) q and (a + b) q + c r: what both have
    in common, (a + b + c) q, is multiplied once.
    """

    lines, step, scales = 3, 1, (1.0, 1.0, 1.0)

    @staticmethod
    def kernel(taps: Sequence[Tensor]) -> list[Tensor]:
        first, second, third = taps
        return [first, first + second + third, third]

    @staticmethod
    def codes(line: Line, raised: Line) -> list[Tensor]:
        second = line(1)
        return [raised(0) - second, second, raised(2) - second]

    @staticmethod
    def zeros(zero: int, offset: int) -> list[int]:
        return [offset, zero, offset]

    @staticmethod
    def middle(points: list[Tensor]) -> tuple[Tensor, Tensor]:
        return points[0], points[0].clone()
