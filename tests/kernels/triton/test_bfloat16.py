"""Kernels in bfloat16, the dtype that GPUs compute in: codes and results are those of `reference` to the bit."""

from __future__ import annotations

import pytest
import torch

from quantface_core.kernels import reference
from tests.kernels.backends import INTERPRETED, conv2d_spec, linear_spec
from tests.kernels.triton.draws import DEVICE, Draw, maps
from tests.kernels.triton.rounding_interpreter import round_to_bfloat16

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels import triton
from quantface_core.kernels.triton import self_test


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if INTERPRETED:
        round_to_bfloat16(monkeypatch)
    monkeypatch.setattr(self_test, "_dtypes", lambda _: [torch.float32, torch.bfloat16])


def test_the_self_test_passes_as_on_a_gpu() -> None:
    """Else every GPU would do without this backend."""
    assert triton._self_test_failure(DEVICE) is None


@pytest.mark.parametrize(
    ("bits", "loudness", "zero_point"),
    [(3, 1e-6, 2), (4, 1e4, 2), (4, 1.0, None), (6, 1e-6, 2), (7, 1e4, None), (8, 1.0, None), (8, 1e-6, None)],
)
def test_layers_are_those_of_the_reference(bits: int, loudness: float, zero_point: int | None) -> None:
    draw = Draw(bits)
    x = (draw.floats(2, 5, 7, 48) * loudness).bfloat16()
    linear = linear_spec(draw.weight((24, 48)), bits, 0.7, zero_point, bias=draw.floats(24))
    square = conv2d_spec(draw.weight((24, 48, 3, 3)), bits, 0.7, zero_point, padding=(1, 1), bias=draw.floats(24))
    for name, spec, given in (("Linear", linear, x.view(-1, 48)), ("Conv2d", square, maps(x))):
        ours, theirs = getattr(triton, name)(spec), getattr(reference, name)(spec)
        for found, expected in zip(ours.codes(given), theirs.codes(given), strict=True):
            assert torch.equal(found, expected)
        assert torch.equal(ours(given), theirs(given))
