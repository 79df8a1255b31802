"""A network that removes noise and traces of compression from faces."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .networks import Residual, as_input, exactly, load_network

BUNDLED = Path(__file__).parent.parent / "weights" / "clean.safetensors"
_WIDTHS = (32, 64, 96)  # channels at 1/2, 1/4 and 1/8 of the side
STRIDE = 8
"""Pixels: sides are padded to multiples of it; an image moved by so many gives the same, moved."""


class CleanNetwork(nn.Module):
    """A three-level residual U-Net that is not told what the damage is; 0.6 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = _WIDTHS
        self.enter = nn.Conv2d(12, fine, 3, padding=1)
        self.fine = Residual(fine)
        self.to_middle, self.middle = nn.Conv2d(fine, middle, 2, 2), Residual(middle)
        self.to_coarse, self.coarse = (
            nn.Conv2d(middle, coarse, 2, 2),
            nn.Sequential(Residual(coarse), Residual(coarse)),
        )
        self.middle_up, self.middle_out = nn.ConvTranspose2d(coarse, middle, 2, 2), Residual(middle)
        self.fine_up, self.fine_out = nn.ConvTranspose2d(middle, fine, 2, 2), Residual(fine)
        self.leave = nn.Conv2d(fine, 12, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Images [B, 3, H, W] in 0 to 1, sides multiples of 8 -> the same without noise and compression."""
        fine = self.fine(self.enter(F.pixel_unshuffle(image * 2 - 1, 2)))
        middle = self.middle(self.to_middle(fine))
        coarse = self.coarse(self.to_coarse(middle))
        middle = self.middle_out(middle + self.middle_up(coarse))
        fine = self.fine_out(fine + self.fine_up(middle))
        return image - F.pixel_shuffle(self.leave(fine), 2)


def load_cleaner(path: Path) -> CleanNetwork:
    """Load a trained network from a safetensors file. Raises ModelError."""
    return load_network(CleanNetwork, path)


@cache
def bundled_cleaner() -> CleanNetwork:
    """The network bundled with the package, loaded once. Raises ModelError."""
    return load_cleaner(BUNDLED)


def without_artifacts(image: NDArray[np.float32], network: CleanNetwork | None = None) -> NDArray[np.float32]:
    """An image [h, w, 3] in 0 to 1 without noise and compression, by the bundled network by default.

    Always runs on the CPU, so that the result does not depend on the device. Raises ModelError.
    """
    height, width = image.shape[:2]
    with exactly():
        clean = (network or bundled_cleaner())(as_input(image, STRIDE))[0, :, :height, :width]
    return np.ascontiguousarray(clean.permute(1, 2, 0).numpy())
