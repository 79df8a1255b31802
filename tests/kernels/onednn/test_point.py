"""Products with weights beyond int8."""

from __future__ import annotations

import pytest
import torch

from quantface_core.kernels.onednn.point import Point
from quantface_core.kernels.onednn.saturation import exact
from tests.kernels.backends import needs_onednn


@needs_onednn
def test_weights_beyond_int8_are_multiplied_separately() -> None:
    if not exact(255, 127):
        pytest.skip("products of so large bytes saturate here")
    weight = torch.zeros(24, 16, dtype=torch.int16)
    weight[3, 5], weight[3, 7], weight[20, 5] = 279, -128, 255
    point = Point(weight, 0.5)
    assert (point.outputs.tolist(), point.channels.tolist()) == ([3, 20], [5, 7])
    assert point.outliers == 2
    x = torch.randint(0, 256, (40, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = (x.double() - 128) @ weight.double().t() / 2
    assert torch.equal(point(x, 128).double(), expected)
