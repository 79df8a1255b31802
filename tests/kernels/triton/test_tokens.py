"""Tokens prepared in one kernel, against the steps by themselves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from quantface_core.kernels import reference
from quantface_core.kernels.backend import ActivationFormat
from quantface_core.kernels.fusion import TokenNorm
from tests.kernels.backends import linear_spec
from tests.kernels.triton.draws import Draw

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels.triton.tokens import rounded_tokens


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
@pytest.mark.parametrize(
    ("width", "block", "folded"), [(320, 64, False), (1280, 64, True), (96, 4, False), (40, 1, False), (64, 64, False)]
)
def test_tokens_are_balanced_and_rounded(bits: int, width: int, block: int, folded: bool) -> None:
    draw = Draw(bits)
    x, transform = draw.eighths(37, width), draw.transform(width, block, folded)
    down = draw.powers(16, width)
    expected, scale = reference.Linear(linear_spec(draw.weight((8, width)), bits, 0.8, transform=transform)).codes(x)
    codes, scales, low = rounded_tokens(x, ActivationFormat(bits, 0.8), transform, down)
    assert torch.equal(codes, expected)
    assert torch.equal(scales, scale)
    assert torch.equal(low, (transform(x).double() @ down.double().t()).float())


@pytest.mark.parametrize(("what", "loudness"), [("norm", 1.0), ("norm", 1e-3), ("gate", 1.0)])
def test_tokens_after_a_norm_or_a_gate_are_close(what: str, loudness: float) -> None:
    """Faint tokens are no louder after a norm than its epsilon lets them be."""
    draw = Draw(7)
    transform, gated = draw.transform(320, 64), what == "gate"
    x = draw.floats(70, 640 if gated else 320) * loudness
    norm = None if gated else TokenNorm(draw.floats(320), draw.floats(320), 1e-5)
    plain = F.layer_norm(x, (320,), norm.weight, norm.bias, norm.eps) if norm else x[:, :320] * F.gelu(x[:, 320:])
    expected, scale = reference.Linear(linear_spec(draw.weight((8, 320)), 4, 0.8, transform=transform)).codes(plain)
    codes, scales, _ = rounded_tokens(x, ActivationFormat(4, 0.8), transform, None, norm, gated)
    torch.testing.assert_close(scales, scale, rtol=1e-5, atol=0)
    assert (codes != expected).float().mean() < 1e-3
    assert (codes - expected).abs().max() <= 1
