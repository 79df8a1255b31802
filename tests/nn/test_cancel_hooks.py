"""A cancel button that layers look for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quantface_core.nn.cancel_hooks import cancel_hooks


class Cancelled(BaseException):
    pass


def test_every_layer_looks_both_ways_and_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    looked = []
    with cancel_hooks(lambda: looked.append(1), model):
        made = model(torch.zeros(1, 4))
        assert len(looked) == 3
        made.sum().backward()
        assert len(looked) == 6
    model(torch.zeros(1, 4)).sum().backward()
    assert len(looked) == 6


def test_what_it_raises_ends_the_work() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(9)))
    looked = []

    def check() -> None:
        looked.append(1)
        if len(looked) == 3:
            raise Cancelled

    with pytest.raises(Cancelled), cancel_hooks(check, model):
        model(torch.zeros(1, 4))
    assert len(looked) == 3
    assert not any(layer._forward_pre_hooks for layer in model)
