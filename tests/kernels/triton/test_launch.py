"""Tiles, and how products are divided over a device."""

from __future__ import annotations

import pytest
import torch

from tests.kernels.triton.draws import DEVICE, Draw

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels.triton import launch


@pytest.mark.parametrize("outputs", [3, 16, 64, 136, 300])
@pytest.mark.parametrize("inputs", [3, 32, 64, 96, 128, 200])
def test_every_tile_gives_the_same_products(outputs: int, inputs: int) -> None:
    from quantface_core.kernels.triton.product import linear_product

    draw = Draw(outputs)
    weight = draw.weight((outputs, inputs)).codes()
    x = draw.weight((150, inputs)).codes()
    ones = torch.ones(outputs, device=DEVICE), torch.ones(150, 1, device=DEVICE)
    exact = (x.double() @ weight.double().t()).float()
    for tile in launch.tiles_for(outputs, inputs):
        assert torch.equal(linear_product(x, weight, *ones, None, tile=tile), exact)


def test_a_nearly_empty_last_wave_takes_smaller_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large tiles leave most multiprocessors idle in their second wave; over many waves that does not matter."""
    monkeypatch.setattr(launch, "multiprocessors", lambda _: 30)
    launch.tile_of.cache_clear()
    try:
        tiles = [launch.tile_of(128 * count, 128, 1280, DEVICE) for count in (30, 33, 330)]
    finally:
        launch.tile_of.cache_clear()
    assert [min(tile.rows, tile.columns) for tile in tiles] == [128, 64, 128]


def test_parts_are_for_few_programs_of_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "multiprocessors", lambda _: 128)
    assert launch.steps_of_part(40, 90, DEVICE) == 15
    assert launch.steps_of_part(40, 9, DEVICE) == 9
    assert launch.steps_of_part(128, 90, DEVICE) == launch.steps_of_part(400, 90, DEVICE) == 90
