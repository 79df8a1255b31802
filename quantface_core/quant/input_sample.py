"""The sample of a layer's input that search and rounding use, under any balance (docs/method.md, sections 2, 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..kernels.hadamard import Rotation, hadamard, rotate, rotation_signs
from ..kernels.quantize import largest_of_token
from ..nn.swap import Layer
from ..nn.zero_padding import zero_padding
from ..types import LayerFormat
from .balanced_weight import Balance

ROWS = 8192  # of a layer's input, at most
_NUMBERS = 1 << 25  # values in all rows, or in the outputs for them, at most: 128 MB
_STRIP = 1 << 18  # values of an image balanced at once, few enough to stay in cache

ChannelScale = Callable[[float | None], Tensor]  # the scale [C] of an exponent


@dataclass(frozen=True)
class InputSample:
    """Rows of a layer's input, each all that one output position reads; in image order, so that halves differ."""

    rows: Tensor  # [N, C, taps] float32
    images: Tensor  # [N] int64, the index of the image (convolutions) or token (linears) that a row is from
    scale_of: ChannelScale
    magnitudes: ImageMagnitudes | None  # for per-image activation scales; None = per token or per pixel

    def subset(self, count: int, seed: int) -> InputSample:
        """A seeded choice of at most `count` rows."""
        chosen = choose(len(self.rows), count, seed).to(self.rows.device)
        return replace(self, rows=self.rows[chosen], images=self.images[chosen])

    def balanced(self, balance: Balance) -> tuple[Tensor, Tensor]:
        """(rows [N, C * taps] float32, their largest magnitudes [N, 1] that set activation scales).

        Columns are in a weight's order; a magnitude is the row's own or, for per-image scales, its image's.
        """
        scale = self.scale_of(balance.exponent)
        rotation = Rotation(len(scale), balance.block, balance.seed)
        rows = rotate(self.rows / scale[:, None], rotation, 1).flatten(1)
        if self.magnitudes is None:
            return rows, largest_of_token(rows)
        return rows, self.magnitudes(balance.exponent, rotation)[self.images, None]


class ImageMagnitudes:
    """The largest magnitude of each image of a convolution's input, under any balance; results are cached."""

    def __init__(self, images: Tensor, scale_of: ChannelScale) -> None:
        """images: [B, C, H, W]."""
        self.pixels, self.scale_of = images.flatten(2), scale_of
        self.by_channel = largest_of_token(self.pixels)[..., 0].float()
        self._known: dict[tuple[float | None, Rotation], Tensor] = {}

    def __call__(self, exponent: float | None, rotation: Rotation) -> Tensor:
        """[B] float32."""
        if (exponent, rotation) not in self._known:
            scale = self.scale_of(exponent)
            unrotated = rotation.block == 1
            found = (self.by_channel / scale).amax(1) if unrotated else self._rotated(scale, rotation)
            self._known[exponent, rotation] = found
        return self._known[exponent, rotation]

    def _rotated(self, scale: Tensor, rotation: Rotation) -> Tensor:
        # One matrix per block that scales and rotates at once.
        factors = (rotation_signs(rotation).to(scale) / scale).view(-1, 1, rotation.block)
        mix = hadamard(rotation.block).to(scale).t() * factors
        strips = self.pixels.unflatten(1, (-1, rotation.block)).split(max(1, _STRIP // rotation.channels), -1)
        return torch.cat([largest_of_token((mix @ strip.float()).flatten(1)) for strip in strips], 1).amax(1)


def sample_input(layer: Layer, fmt: LayerFormat, x: Tensor, scale_of: ChannelScale) -> InputSample:
    """A seeded choice of rows of a layer's input: of tokens [..., C], or of images [B, C, H, W].

    Images are kept for per-image activation scales; a linear's are per token, a pointwise convolution's per pixel.
    """
    x, most = x.detach(), max(1, min(ROWS, _NUMBERS // max(layer.weight[0].numel(), len(layer.weight))))
    if isinstance(layer, nn.Conv2d):
        height, width = output_sides(layer, x)
        chosen = choose(len(x) * height * width, most, fmt.seed).to(x.device)
        images = chosen // (height * width)
        rows = _read(layer, x, images, chosen // width % height, chosen % width)
    else:
        tokens = x.reshape(-1, x.shape[-1])
        images = choose(len(tokens), most, fmt.seed).to(x.device)
        rows = tokens[images, :, None]
    per_image = isinstance(layer, nn.Conv2d) and not fmt.per_pixel
    return InputSample(rows.float(), images, scale_of, ImageMagnitudes(x, scale_of) if per_image else None)


def choose(of: int, count: int, seed: int) -> Tensor:
    """At most `count` indices below `of`, int64, sorted."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(of, generator=generator, device="cpu")[:count].sort().values


def output_sides(layer: nn.Conv2d, x: Tensor) -> tuple[int, int]:
    """Height and width of a convolution's output for images [B, C, H, W]."""
    height, width = (
        (x.shape[2 + i] + 2 * _padding(layer, i) - layer.kernel_size[i]) // layer.stride[i] + 1 for i in (0, 1)
    )
    return height, width


def _read(layer: nn.Conv2d, x: Tensor, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """What a convolution reads of images for its outputs at positions [N]: [N, C, taps], zeros beyond the borders."""
    (tall, wide), down, right = x.shape[2:], _taps(layer, 0, row)[:, :, None], _taps(layer, 1, column)[:, None, :]
    outside = (down < 0) | (down >= tall) | (right < 0) | (right >= wide)
    read = x[image[:, None, None], :, down.clamp(0, tall - 1), right.clamp(0, wide - 1)]  # [N, kh, kw, C]
    return read.masked_fill_(outside[..., None], 0).flatten(1, 2).transpose(1, 2).contiguous()


def _taps(layer: nn.Conv2d, axis: int, at: Tensor) -> Tensor:
    """The positions along an axis that a convolution reads for its outputs at positions [N]: [N, taps]."""
    taps = torch.arange(layer.kernel_size[axis], device=at.device) - _padding(layer, axis)
    return (at * layer.stride[axis])[:, None] + taps


def _padding(layer: nn.Conv2d, axis: int) -> int:
    padding = zero_padding(layer)
    assert padding is not None  # else it is no `quantizable` layer
    return padding[axis]
