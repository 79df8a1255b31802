"""What a weight is rounded against: rows of a layer's rounded input, and of the output they should give."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.swap import Layer

_ROWS = 8192  # tokens or pixels at most
_NUMBERS = 1 << 25  # of all inputs at most: 128 MB


@dataclass(frozen=True)
class RoundingSample:
    """Rows in the order of images, so that halves are of different images or places."""

    inputs: Tensor  # [N, K] float32, rounded and clipped; columns in the order of a weight [O, K]
    target: Tensor  # [N, O] float32, what the weight should make of them

    def to(self, device: torch.device) -> RoundingSample:
        return RoundingSample(self.inputs.to(device), self.target.to(device))

    def finite(self) -> RoundingSample:
        """Without the rows that hold NaN or infinity."""
        if torch.isfinite(self.inputs).all() and torch.isfinite(self.target).all():
            return self
        keep = torch.isfinite(self.inputs).all(1) & torch.isfinite(self.target).all(1)
        return RoundingSample(self.inputs[keep], self.target[keep])


def sample_rows(layer: Layer, rounded: Tensor, target: Tensor, seed: int) -> RoundingSample:
    """A seeded choice of rows.

    rounded: tokens or pixels [N, C], or images [B, C, H, W]; target: what the layer should make of them, [N, O] or
    [B, O, H', W'].
    """
    count = target.numel() // target.shape[1]
    most = max(1, min(_ROWS, _NUMBERS // layer.weight[0].numel()))
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].sort().values
    chosen = chosen.to(target.device)
    if target.ndim == 2:
        return RoundingSample(rounded[chosen], target[chosen])
    assert isinstance(layer, nn.Conv2d)
    height, width = target.shape[2:]
    image, row, column = chosen // (height * width), chosen // width % height, chosen % width
    inputs = _windows(layer, rounded)[image, :, row, column].flatten(1)
    return RoundingSample(inputs, target[image, :, row, column])


def _windows(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What every output of a convolution reads, a view [B, C, H', W', kh, kw]."""
    assert not isinstance(layer.padding, str)
    down, right = layer.padding
    padded = F.pad(x, (right, right, down, down))
    return padded.unfold(2, layer.kernel_size[0], layer.stride[0]).unfold(3, layer.kernel_size[1], layer.stride[1])
