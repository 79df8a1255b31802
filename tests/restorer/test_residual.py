"""Residual blocks against diffusers' own."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from quantface_core.restorer.residual import FusedResnetBlock, replace_residuals


@pytest.mark.parametrize("outputs", [8, 16])
@pytest.mark.parametrize("time", [None, 12])
def test_blocks_give_what_diffusers_do(outputs: int, time: int | None) -> None:
    torch.manual_seed(0)
    block = ResnetBlock2D(in_channels=8, out_channels=outputs, temb_channels=time, groups=4)
    model = nn.Sequential(copy.deepcopy(block))
    replace_residuals(model)
    assert isinstance(model[0], FusedResnetBlock)
    assert list(model[0].state_dict()) == list(block.state_dict())
    x, step = torch.randn(2, 8, 6, 5), None if time is None else torch.randn(2, time)
    kept = x.clone()
    expected = block(x, step)
    assert torch.equal(model[0](x, step), expected)
    with torch.inference_mode():
        assert torch.equal(model[0](x, step), expected)
    assert torch.equal(x, kept)


def test_blocks_that_do_more_stay() -> None:
    model = nn.Sequential(ResnetBlock2D(in_channels=8, temb_channels=None, groups=4, down=True))
    replace_residuals(model)
    assert isinstance(model[0], ResnetBlock2D)
