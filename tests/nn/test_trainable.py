"""Layers in training compute what their integers do, and become them again."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import quantface_core as qf
from quantface_core.kernels import reference
from quantface_core.nn.swap import prepare, quant_layers
from quantface_core.nn.trainable import to_integers, to_trainable, trainable_parameters

LAYERS = {
    "linear": nn.Linear(32, 24), "convolution": nn.Conv2d(32, 24, 3, padding=1), "pointwise": nn.Conv2d(32, 24, 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_in_training_computes_what_its_integers_do(kind: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 9, 32) if kind == "linear" else torch.randn(2, 32, 6, 7)
    model = nn.Sequential(copy.deepcopy(LAYERS[kind])).eval()
    qf.quantize(model, [x], qf.QuantConfig(rank=4))
    prepare(model, reference)
    expected = model(x)
    to_trainable(model, rank=4)
    torch.testing.assert_close(model(x), expected, atol=1e-3, rtol=1e-3)
    down, up = trainable_parameters(model, distillation_only=True).values()
    with torch.no_grad():
        up.add_(0.1)
    trained = model(x).detach()
    assert not torch.allclose(trained, expected, atol=1e-2)
    to_integers(model)
    prepare(model, reference)
    assert quant_layers(model)["0"].format.rank == len(down) + 4
    torch.testing.assert_close(model(x), trained, atol=5e-3, rtol=5e-3)
