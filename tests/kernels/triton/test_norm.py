"""Group norms of channels-last maps, against torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from quantface_core.kernels import triton
from tests.kernels.triton.draws import DEVICE

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")


@pytest.mark.parametrize(("shape", "groups"), [((2, 32, 9, 7), 8), ((1, 320, 16, 16), 32), ((2, 20, 3, 500), 4)])
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_group_norm_is_torchs(shape: tuple[int, ...], groups: int, mean: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).mul(3).add(mean).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(2, shape[1], generator=generator)
    y = triton.group_norm(x.to(DEVICE), groups, weight.to(DEVICE), bias.to(DEVICE), 1e-6)
    assert y.stride() == x.stride()
    exact = F.group_norm(x.double(), groups, weight.double(), bias.double(), 1e-6)
    torch.testing.assert_close(y.cpu().double(), exact, rtol=1e-4, atol=1e-4)
