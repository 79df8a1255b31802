"""What the NVIDIA backend has besides its layers; on a GPU, or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from quantface_core.kernels import triton
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.quantize import BITS, largest_code
from quantface_core.kernels.weight import LowBitWeight

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


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


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(7, 9), (5, 64), (3, 6, 3, 3), (4, 5, 1, 1), (2, 33, 2, 5)])
def test_weights_unpack_with_their_taps_first(bits: int, shape: tuple[int, ...]) -> None:
    from quantface_core.kernels.triton.unpack import unpacked

    limit = largest_code(bits)
    codes = torch.randint(-limit, limit + 1, shape, generator=torch.Generator().manual_seed(bits)).to(torch.int8)
    weight = LowBitWeight(pack(codes, bits).to(DEVICE), torch.ones(shape[0]), bits, shape)
    assert torch.equal(unpacked(weight).cpu(), codes.movedim(1, -1))


def test_a_trial_tells_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    from quantface_core.kernels.triton import self_test

    assert triton._does_not_work(DEVICE) is None
    monkeypatch.setattr(self_test, "group_norm", lambda x, *_: x)
    assert triton._does_not_work(DEVICE) == "its results are wrong here"
    monkeypatch.setattr(self_test, "group_norm", lambda *_: 1 / 0)
    assert triton._does_not_work(DEVICE) == "Triton cannot compile here (division by zero)"


def test_it_says_why_it_cannot_run() -> None:
    assert "not on cpu" in triton.unavailable(torch.device("cpu"))
    if torch.cuda.is_available():
        assert triton.unavailable(DEVICE) is None
