"""How a photo is looked at for scratches, and what a network's answer does to it: a stand-in says what it sees."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantface_core import repair_scratches
from quantface_core.faces.scratch_network import ScratchNetwork
from quantface_core.types import Pixels, Repair

GRAY, LIKELY, SURE = 60, 140, 220  # levels of an image: intact; damaged with probability 1/2; with more than 0.99


class ByLevel(nn.Module):
    """Takes light pixels for damage, by their level, and draws red as light as the image is wide."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(image.clone())
        level = 255 * image[:, :1]
        drawn = torch.zeros_like(image)
        drawn[:, 0] = image.shape[-1] / 1024
        return drawn, (level - LIKELY) / (SURE - LIKELY) * 6 - 12 * (level < (GRAY + LIKELY) / 2)


def repaired(pixels: Pixels) -> tuple[Repair, list[Tensor]]:
    """The repair, and what was seen [1, 3, H, W] at each size."""
    network = ByLevel()
    return repair_scratches(pixels, network=cast(ScratchNetwork, network)), network.seen


def colored(height: int, width: int) -> Pixels:
    """Intact, and neither black and white nor toned [H, W, 3]."""
    pixels = np.random.default_rng(0).integers(0, GRAY, (height, width, 3), np.uint8)
    pixels[..., 0] = GRAY
    return pixels


def test_likely_places_are_damage_where_they_touch_a_sure_one() -> None:
    pixels = colored(64, 64)
    pixels[10, 10:14] = LIKELY
    corners = np.arange(30, 40)
    pixels[corners, corners] = LIKELY
    pixels[35, 35] = SURE
    mask = repaired(pixels)[0].mask
    assert (mask[10, 10:14] == 0).all()
    assert (mask[corners, corners] > 0.5).all()


def test_repairs_end_softly() -> None:
    pixels = colored(64, 64)
    pixels[28:36, 28:36] = SURE
    repair, _ = repaired(pixels)
    edge = repair.mask[32, 20:32]
    assert (np.diff(edge) >= 0).all()
    assert ((edge > 0.1) & (edge < 0.9)).any()
    expected = pixels + repair.mask[..., None] * ((64 / 1024 * 255, 0, 0) - pixels.astype(float))
    assert np.abs(repair.pixels - expected).max() <= 0.5


def test_black_and_white_stays_so_whatever_is_drawn() -> None:
    pixels = np.full((64, 64, 3), GRAY, np.uint8)
    pixels[28:36, 28:36] = SURE
    repair, _ = repaired(pixels)
    assert repair.share > 0
    assert (repair.pixels == repair.pixels[..., :1]).all()


def test_halves_of_a_photo_see_it_repaired_and_leave_what_was_drawn() -> None:
    pixels = colored(512, 1024)
    pixels[200:216, 400:416] = SURE
    repair, seen = repaired(pixels)
    assert [tuple(image.shape[-2:]) for image in seen] == [(512, 1024), (256, 512), (128, 256)]
    assert seen[0][0, 0, 208, 408] == pytest.approx(SURE / 255)
    assert seen[1][0, 0, 104, 204] == pytest.approx(1, abs=0.01)  # as the first drew it, having seen 1024 pixels
    assert repair.pixels[208, 408].tolist() == [255, 0, 0]


def test_a_photo_in_colour_is_drawn_in_colour_though_its_sky_is_gray() -> None:
    pixels = colored(64, 64)
    pixels[:20] = pixels[:20, :, :1]
    pixels[28:36, 28:36] = SURE
    assert repaired(pixels)[0].pixels[32, 32].tolist() == [round(64 / 1024 * 255), 0, 0]


def test_an_upright_photo_is_halved_by_its_height() -> None:
    _, seen = repaired(colored(512, 160))
    assert [tuple(image.shape[-2:]) for image in seen] == [(512, 160), (256, 80)]


def test_a_larger_photo_is_seen_at_1536_pixels_by_areas() -> None:
    pixels = colored(96, 3072)
    pixels[:, :, 0] = GRAY
    pixels[::2, :, 0] = 0
    _, seen = repaired(pixels)
    assert [image.shape[-1] for image in seen] == [1024 + 144, 512 + 144, 768, 384]  # 1536 in two tiles
    assert (seen[0][0, 0] - GRAY / 2 / 255).abs().max() < 1e-3
