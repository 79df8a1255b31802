"""Weights in bytes, from the bits they are stored in."""

from __future__ import annotations

import pytest
import torch

from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.quantize import largest_code
from quantface_core.kernels.weight import LowBitWeight
from quantface_core.types import BITS
from tests.kernels.triton.draws import DEVICE

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels.triton import launch
from quantface_core.kernels.triton.unpack import unpacked


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(7, 9), (5, 64), (3, 6, 3, 3), (4, 5, 1, 1), (2, 33, 2, 5)])
def test_weights_are_unpacked_channels_last(bits: int, shape: tuple[int, ...]) -> None:
    limit = largest_code(bits)
    codes = torch.randint(-limit, limit + 1, shape, generator=torch.Generator().manual_seed(bits)).to(torch.int8)
    weight = LowBitWeight(pack(codes, bits).to(DEVICE), torch.ones(shape[0]), bits, shape)
    assert torch.equal(unpacked(weight).cpu(), codes.movedim(1, -1))


def test_a_language_models_head_fits_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose axes other than the first have at most 65535 programs."""
    grids: list[tuple[int, ...]] = []
    monkeypatch.setattr(launch, "start", lambda kernel, grid, *_, **__: grids.append(grid))
    packed = torch.empty(0, dtype=torch.uint8, device="meta")
    unpacked(LowBitWeight(packed, torch.empty(0), 4, (128256, 4096)))
    assert grids == [(128256, 4)]
