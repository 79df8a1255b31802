"""The integer product of a convolution over padded codes, by whichever of oneDNN's kernels is the fastest.

oneDNN's own choice of kernel is poor for very large and very small maps. Measured on two cores with VNNI, in
milliseconds: padding inside the product 617, in the codes 354 (512 channels at 256x256); a whole map 104, in
strips of rows that stay in the cache 89 (128 at 512x512); a convolution of few pixels with many channels 6.0, as
a linear over its columns (im2col) 2.7 (1280 at 8x8); a 1x1 convolution 5.0, as a linear 1.9 (2560 at 16x16).

With matrix units (AMX) copying the strips costs more than they save: in CPU milliseconds of one core, a whole map 31,
in strips 45 (128 channels at 512x512); 24 and 33 (256 at 256x256).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from .matrix_units import has_matrix_units
from .rows import Rows

_STRIP = 1 << 21  # bytes read at once
_WIDE = 1 << 20  # weights per tap from which columns pay


@cache
def convolve() -> Any:
    """Torch's operator for integer convolutions, which has another name in older torch; None where there is none."""
    known = (getattr(torch.ops.onednn, name, None) for name in ("qconv_pointwise", "qconv2d_pointwise"))
    return next(filter(None, known), None)


class Product:
    """Padded codes [H, W, C] uint8 -> [H', W', O]; one scale per image."""

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None, stride: tuple[int, int], zero: int) -> None:
        """codes: the weight's, int8 [O, C, kh, kw]; scale and bias: [O] float32; zero: the activations' zero point."""
        self.scale, self.bias, self.stride, self.zero = scale, bias, stride, zero
        self.taps = codes.shape[2], codes.shape[3]
        taps = codes.shape[2:].numel()
        self.columns = taps == 1 or codes[:, :, 0, 0].numel() >= _WIDE
        self.bytes_read = taps if self.columns else 1  # per code
        if self.columns:
            self.rows = Rows(codes.permute(0, 2, 3, 1).reshape(len(codes), -1))
        else:
            self.zeros = torch.zeros_like(scale, dtype=torch.int8)
            self.weight: Any = torch.ops.onednn.qconv_prepack(
                codes, scale, 1.0, 0, list(stride), [0, 0], [1, 1], 1, None
            )

    def size(self, padded: Tensor) -> tuple[int, int]:
        """H', W' of the result for padded codes."""
        return tuple((n - k) // s + 1 for n, k, s in zip(padded.shape, self.taps, self.stride, strict=False))  # type: ignore[return-value]

    def __call__(self, padded: Tensor, scale: Tensor, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
        """The product in `dtype`, written to `out` [H', W', O] where one is given."""
        height, width = self.size(padded)
        # The image's scale is multiplied into the weight's: the product needs no further pass, and every oneDNN kernel
        # rounds as the reference does (given both scales, they multiply in different orders).
        scales = self.scale * scale.flatten()
        step = max(1, _STRIP // (padded[0].numel() * self.stride[0] * self.bytes_read))
        whole = step * 2 > height or (has_matrix_units() and not self.columns)
        if out is None and whole:
            return self._piece(padded, scales, dtype)
        out = scales.new_empty(height, width, len(scales), dtype=dtype) if out is None else out
        for start in range(0, height, step):
            end = min(start + step, height)
            rows = padded[start * self.stride[0] : (end - 1) * self.stride[0] + self.taps[0]]
            out[start:end] = self._piece(rows, scales, dtype)
        return out

    def _piece(self, padded: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        if self.columns:
            rows = self.rows(self._columns(padded), self.zero, scales, dtype, self.bias)
            return rows.view(*self.size(padded), -1)
        maps: Tensor = convolve()(
            padded[None].permute(0, 3, 1, 2), 1.0, self.zero, self.weight, scales, self.zeros,
            self.bias, list(self.stride), [0, 0], [1, 1], 1, 1.0, 0, dtype, "none", [], "",
        )  # fmt: skip
        return maps[0].permute(1, 2, 0)

    def _columns(self, padded: Tensor) -> Tensor:
        """What each output pixel reads, as a row: [H' W', kh kw C]."""
        (height, width), (down, across) = self.size(padded), self.stride
        taps = [
            padded[i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * across + 1 : across]
            for i in range(self.taps[0])
            for j in range(self.taps[1])
        ]
        rows = [tap.reshape(height * width, -1) for tap in taps]
        return rows[0] if len(rows) == 1 else torch.cat(rows, 1)
