"""Upscaling networks that users supply, such as Real-ESRGAN: they enlarge a photo, onto which faces are pasted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..bit_depth import in_shares
from ..errors import QuantFaceError
from ..types import Pixels, Progress, silent

_TILE, _MARGIN = 256, 32  # pixels of the photo: a tile's side, and what the network sees around it
_Span = tuple[int, int]


class Upscaler(nn.Module):
    """A network [1, 3, H, W] -> [1, 3, scale H, scale W], both in 0 to 1, applied to photos of any size in tiles."""

    def __init__(self, network: nn.Module, scale: int) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    @torch.no_grad()
    def forward(self, pixels: Pixels, factor: int, progress: Progress = silent) -> Pixels:
        """Enlarge RGB [H, W, 3] to [factor H, factor W, 3], in its dtype; a factor other than `scale` is resampled to.

        A photo whose channels are equal stays so: networks tint what is gray. A tile that overflows in float16 is
        computed in float32. `progress` gets (tiles done, tiles). Raises QuantFaceError where the network's output is
        not finite.
        """
        height, width = pixels.shape[:2]
        made = np.empty((height * factor, width * factor, 3), pixels.dtype)
        gray = bool((pixels == pixels[..., :1]).all())
        tiles = [(rows, columns) for rows in _spans(height) for columns in _spans(width)]
        for number, (rows, columns) in enumerate(tiles, 1):
            (top, bottom), (left, right) = (_around(*span, size) for span, size in ((rows, height), (columns, width)))
            tile = self._enlarged(pixels[top:bottom, left:right], factor, gray)
            inner = tile[_within(rows, top, factor), _within(columns, left, factor)]
            made[_within(rows, 0, factor), _within(columns, 0, factor)] = inner
            progress(number, len(tiles))
        return made

    def _enlarged(self, pixels: Pixels, factor: int, gray: bool) -> Pixels:
        weight, white = next(self.parameters()), np.iinfo(pixels.dtype).max
        x = torch.from_numpy(in_shares(pixels)).permute(2, 0, 1)[None].to(weight.device, weight.dtype)
        y: Any = self.network(x)
        if weight.dtype == torch.float16 and not torch.isfinite(y).all():
            y = self._in_float32(x)
        if not torch.isfinite(y).all():
            raise QuantFaceError("the upscaler's output is not finite: use another one")
        y = y.float().clamp(0, 1)
        if gray:
            y = y.mean(1, keepdim=True).expand_as(y)
        large: NDArray[Any] = y[0].permute(1, 2, 0).cpu().numpy()
        if factor != self.scale:
            size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
            how = cv2.INTER_AREA if factor < self.scale else cv2.INTER_CUBIC
            large = np.clip(cv2.resize(large, size, interpolation=how), 0, 1)
        whole: NDArray[Any] = np.rint(large * white).astype(pixels.dtype)
        return whole

    def _in_float32(self, x: torch.Tensor) -> Any:
        self.network.float()
        try:
            return self.network(x.float())
        finally:
            self.network.half()


def _spans(size: int) -> Iterator[_Span]:
    """Parts of about equal length, none longer than a tile."""
    count = -(-size // _TILE)
    edges = [round(i * size / count) for i in range(count + 1)]
    return pairwise(edges)


def _around(start: int, end: int, size: int) -> _Span:
    return max(0, start - _MARGIN), min(size, end + _MARGIN)


def _within(span: _Span, origin: int, factor: int) -> slice:
    return slice((span[0] - origin) * factor, (span[1] - origin) * factor)
