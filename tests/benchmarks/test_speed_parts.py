"""The breakdown of a low-bit restorer's time misses no layer and counts none twice."""

from __future__ import annotations

import copy
import math
from collections import Counter

import pytest
import savings
import speed_parts
import torch
from random_models import low_bit_layers

from quantface_core.kernels import onednn
from quantface_core.nn import qlinear
from quantface_core.nn.swap import prepare, quant_layers
from quantface_core.restorer import OneStepRestorer

pytestmark = pytest.mark.skipif(bool(onednn.unavailable(torch.device("cpu"))), reason="needs the onednn backend")


@pytest.fixture
def low(tiny: OneStepRestorer) -> OneStepRestorer:
    low = copy.deepcopy(tiny)
    low_bit_layers(low, "w4a4", rank=4)
    prepare(low, onednn)
    return low


def test_every_layer_is_counted_once(low: OneStepRestorer) -> None:
    costs = savings.count(low.config).layers
    macs = sum(math.prod(costs[name].shape) * costs[name].positions for name in quant_layers(low))
    spent: Counter[str] = Counter()
    with torch.inference_mode(), speed_parts.counted(spent):
        low(torch.rand(1, 3, 64, 64) * 2 - 1)
    assert spent["operations"] == 2 * macs
    assert 0 < spent["codes"] < spent["kernels"] < spent["layers"]
    assert spent["attention"] > 0


def test_the_library_is_restored_after_profiling(low: OneStepRestorer) -> None:
    before = qlinear.project, onednn.Conv2d.__call__
    with speed_parts.counted(Counter()):
        assert qlinear.project is not before[0]
    assert (qlinear.project, onednn.Conv2d.__call__) == before
