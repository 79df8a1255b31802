"""The average of weights is what its definition says, and resumes."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import nn


def test_it_is_over_few_steps_at_first_and_by_its_decay_later(module: ModuleType) -> None:
    network = nn.Linear(1, 1, bias=False)
    average, expected = module.averaged(network, 0.5), 0.0
    for step in range(12):
        nn.init.constant_(network.weight, float(step))
        average.update_parameters(network)
        decay = min(0.5, (step + 1) / (step + 10))
        expected = step if step == 0 else expected + (1 - decay) * (step - expected)
        assert average.module.weight.item() == pytest.approx(expected)


def test_it_resumes(module: ModuleType) -> None:
    network = nn.Linear(2, 2)
    one, other = module.averaged(network, 0.99), module.averaged(network, 0.99)
    for step in range(6):
        nn.init.constant_(network.weight, float(step))
        one.update_parameters(network)
        if step == 2:
            other.load_state_dict(one.state_dict())
        if step > 2:
            other.update_parameters(network)
    assert torch.equal(one.module.weight, other.module.weight)
