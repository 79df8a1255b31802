"""Codes of bfloat16, rounded by an addition; at scales that are powers of two, which the interpreter does not cut."""

from __future__ import annotations

import pytest
import torch

from quantface_core.kernels import reference
from quantface_core.kernels.quantize import largest_magnitude
from tests.kernels.backends import conv2d_spec, linear_spec
from tests.kernels.triton.draws import DEVICE, Draw

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels import triton


@pytest.mark.parametrize("bits", [3, 4, 6, 7])
@pytest.mark.parametrize("share", [None, 0, 1 / 8, 3 / 8, 1 / 2])
def test_halves_in_bfloat16_go_to_the_reference_code(bits: int, share: float | None) -> None:
    zero_point = None if share is None else int(share * 2**bits)
    largest = largest_magnitude(bits, zero_point)  # is mapped to itself: a scale of 1
    x = (torch.arange(-2 * largest, 2 * largest + 1, device=DEVICE) / 2).bfloat16()[None]
    linear = linear_spec(Draw().weight((8, x.shape[1])), bits, 1.0, zero_point)
    square = conv2d_spec(Draw().weight((8, x.shape[1], 3, 3)), bits, 1.0, zero_point, padding=(1, 1))
    codes, scale = reference.Linear(linear).codes(x)
    assert float(scale) == 1.0
    assert torch.equal(triton.Linear(linear).codes(x)[0], codes)
    maps = x[..., None, None]
    assert torch.equal(triton.Conv2d(square).codes(maps)[0], reference.Conv2d(square).codes(maps)[0])
