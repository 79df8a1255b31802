"""Losses that the demonstration restorer is trained on, each a scalar from two image batches."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


def gradient_loss(a: Tensor, b: Tensor) -> Tensor:
    """L1 between horizontal and vertical differences at three scales: puts edges in the right place."""
    total = a.new_zeros(())
    for _ in range(3):
        total = total + (a.diff(dim=-1) - b.diff(dim=-1)).abs().mean() + (a.diff(dim=-2) - b.diff(dim=-2)).abs().mean()
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total / 6


def opponent_colors(image: Tensor) -> Tensor:
    """Red-green and yellow-blue differences: [B, 3, H, W] -> [B, 2, H, W]."""
    red, green, blue = image.unbind(1)
    return torch.stack([red - green, (red + green) / 2 - blue], 1)


def color_loss(a: Tensor, b: Tensor) -> Tensor:
    """L1 between opponent colours, which brightness outweighs in a plain L1."""
    return F.l1_loss(opponent_colors(a), opponent_colors(b))


def frequency_loss(a: Tensor, b: Tensor, weights: Tensor | None = None, patch: int = 32) -> Tensor:
    """L1 between log amplitude spectra of patches: the amount of texture, regardless of its position.

    Phase is free, so the optimum is not the blurry mean that a pixel loss favours. `weights` [B] are per image.
    """

    def amplitude(x: Tensor) -> Tensor:
        tiles = x.unfold(2, patch, patch).unfold(3, patch, patch)
        return torch.log(torch.fft.rfft2(tiles, norm="ortho").abs() + 0.02)

    each = (amplitude(a) - amplitude(b)).abs().flatten(1).mean(1)
    return weighted_mean(each, weights)


def weighted_mean(each: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over images of values [B] times their weights [B], 0 to 1."""
    return each.mean() if weights is None else (weights * each).mean()


class PatchDiscriminator(nn.Module):
    """Judges overlapping 70-pixel patches: image [B, 3, H, W] -> logits [B, 1, H/8, W/8]."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        widths = [3, width, width * 2, width * 4]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        layers += [spectral_norm(nn.Conv2d(widths[-1], width * 4, 3, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width * 4, 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def hinge(real: Tensor, fake: Tensor, weights: Tensor | None = None) -> Tensor:
    """The discriminator's hinge loss; `weights` [B] are per image."""
    each = (F.relu(1 - real) + F.relu(1 + fake)).flatten(1).mean(1)
    return weighted_mean(each, weights)
