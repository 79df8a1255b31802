"""How much of a restored face to use: a small network sees it before and after and predicts a share per pixel.

A restorer, trained to repair, makes good faces worse. The network is trained on faces in every condition, with their
originals, to predict the share whose blend is closest to the original, and so leaves alone what was sharp already.
It is independent of the restorer: whatever is worse than the input is not used.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..types import Crop, Plane
from .networks import exactly, load_network

BUNDLED = Path(__file__).parent.parent / "weights" / "blend.safetensors"
_SIDE = 256  # pixels, side of the network's input
_GAIN = 8.0  # of difference inputs, which are small compared with brightness
_WIDTHS = (48, 64, 96)  # channels at 1/4, 1/8 and 1/16 of the side
_UNSURE = 0.15  # shares this close to 0 or 1 are set to 0 or 1
_FLAT = (0.5 / 255) ** 2  # variance below which a place has no detail


class BlendNetwork(nn.Module):
    """A three-level U-Net whose inputs are the face before, its detail, and the change; 0.35 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = _WIDTHS
        self.enter = nn.Conv2d(9 * 16, fine, 1)
        self.fine = _block(fine, fine)
        self.middle = _block(fine, middle, stride=2)
        self.coarse = _block(middle, coarse, stride=2)
        self.whole = nn.Linear(coarse, coarse)
        self.to_middle, self.to_fine = nn.Conv2d(coarse, middle, 1), nn.Conv2d(middle, fine, 1)
        self.middle_up, self.fine_up = _block(middle, middle, depth=1), _block(fine, fine, depth=1)
        self.leave = nn.Conv2d(fine, 1, 3, padding=1)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Faces [B, 3, 256, 256] in 0 to 1 -> shares [B, 1, 256, 256] in 0 to 1, smooth over 4 pixels."""
        return self.logits(before, after).sigmoid()

    def logits(self, before: Tensor, after: Tensor) -> Tensor:
        """As `forward`, before the sigmoid."""
        detail = before - F.avg_pool2d(F.pad(before, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        seen = torch.cat([before * 2 - 1, _GAIN * detail, _GAIN * (after - before)], 1)
        fine = self.fine(self.enter(F.pixel_unshuffle(seen, 4)))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        coarse = F.silu(coarse + self.whole(coarse.mean((2, 3)))[:, :, None, None])
        middle = self.middle_up(middle + F.interpolate(self.to_middle(coarse), scale_factor=2.0))
        fine = self.fine_up(fine + F.interpolate(self.to_fine(middle), scale_factor=2.0))
        return F.interpolate(self.leave(fine), scale_factor=4.0, mode="bilinear")


def _block(inputs: int, outputs: int, stride: int = 1, depth: int = 2) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Conv2d(inputs if index == 0 else outputs, outputs, 3, stride if index == 0 else 1, 1), nn.SiLU()]
    return nn.Sequential(*layers)


def load_blend(path: Path) -> BlendNetwork:
    """Load a trained network from a safetensors file. Raises ModelError."""
    return load_network(BlendNetwork, path)


@cache
def bundled_blend() -> BlendNetwork:
    """The network bundled with the package, loaded once. Raises ModelError."""
    return load_blend(BUNDLED)


def blend_share(before: Crop, after: Crop, network: BlendNetwork | None = None) -> Plane:
    """The share [S, S] in 0 to 1 of the change to apply to one aligned face, before and after [S, S, 3] in 0 to 1.

    `network` is the bundled one by default. Always runs on the CPU, so that the result does not depend on the device.
    Raises ModelError.
    """
    network = network or bundled_blend()
    size = (len(before), len(before))
    pair = [torch.from_numpy(np.ascontiguousarray(_resized(x, _SIDE))).permute(2, 0, 1)[None] for x in (before, after)]
    with exactly():
        small = network(*pair)[0, 0].numpy()
    share = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    # Applying a sliver of a change helps nobody: almost none becomes none, and almost all becomes all.
    clear: Plane = np.clip((share - _UNSURE) / (1 - 2 * _UNSURE), 0, 1)
    return clear


def kept_detail(before: Crop, blended: Crop) -> Plane:
    """How much of a crop's finest detail survived its restoration, [S, S] in 0 to 1.

    Detail beyond the crop's resolution is of the same kind: pores where the crop kept its pores, noise or block edges
    where those were removed. The share is the local projection of the new detail onto the old.
    """
    old, new = (x - cv2.GaussianBlur(x, (0, 0), 1.0) for x in (before, blended))
    window = (len(before) // 16 | 1,) * 2
    common, energy = (cv2.blur((a * old).mean(2), window) for a in (new, old))
    kept: Plane = np.clip((common + _FLAT) / (energy + _FLAT), 0, 1)
    return kept


def _resized(image: Crop, side: int) -> Crop:
    if len(image) == side:
        return image
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if len(image) > side else cv2.INTER_CUBIC)
