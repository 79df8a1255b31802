"""A network that segments the scratches, cracks and dust of old prints in a photo, and inpaints them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from .networks import Residual, load_network

BUNDLED = Path(__file__).parent.parent / "weights" / "scratches.safetensors"
_WIDTHS = (32, 64, 96, 128)  # channels at 1/2, 1/4, 1/8 and 1/16 of the side
STRIDE = 16
"""Pixels: sides are multiples of it; an image moved by so many gives the same, moved."""


class ScratchNetwork(nn.Module):
    """A four-level residual U-Net with two outputs; 1.3 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        fine, coarser = _WIDTHS[0], list(pairwise(_WIDTHS))
        self.enter = nn.Sequential(nn.Conv2d(12, fine, 3, padding=1), Residual(fine))
        self.down = nn.ModuleList(nn.Sequential(nn.Conv2d(a, b, 2, 2), Residual(b)) for a, b in coarser)
        self.middle = Residual(_WIDTHS[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in coarser)
        self.out = nn.ModuleList(Residual(a) for a, _ in coarser)
        self.leave = nn.Conv2d(fine, 16, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] in 0 to 1, sides multiples of 16 -> (undamaged ones, logits of damage [B, 1, H, W]).

        The first is of use only where there is damage.
        """
        levels = [self.enter(F.pixel_unshuffle(image * 2 - 1, 2))]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = self.middle(levels.pop())
        for up, out in zip(reversed(self.up), reversed(self.out), strict=True):
            x = out(levels.pop() + up(x))
        found: Tensor = F.pixel_shuffle(self.leave(x), 2)
        return image + found[:, :3], found[:, 3:]


def load_scratch_network(path: Path) -> ScratchNetwork:
    """Load a trained network from a safetensors file. Raises ModelError."""
    return load_network(ScratchNetwork, path)


@cache
def bundled_scratch_network() -> ScratchNetwork:
    """The network bundled with the package, loaded once. Raises ModelError."""
    return load_scratch_network(BUNDLED)
