"""Residual blocks against diffusers' own."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from quantface_core.restorer.interface import RestorerModel
from quantface_core.restorer.residual import FusedResnetBlock, replace_residuals


@pytest.mark.parametrize("outputs", [8, 16])
@pytest.mark.parametrize("time", [None, 12])
def test_blocks_match_diffusers(outputs: int, time: int | None) -> None:
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


def test_other_residual_blocks_are_not_replaced() -> None:
    model = nn.Sequential(ResnetBlock2D(in_channels=8, temb_channels=None, groups=4, down=True))
    replace_residuals(model)
    assert isinstance(model[0], ResnetBlock2D)


def test_a_block_that_is_recomputed_keeps_its_input_alone() -> None:
    torch.manual_seed(0)
    block = FusedResnetBlock(ResnetBlock2D(in_channels=8, groups=4, temb_channels=None))
    gradients, kept = [], []
    for block.recomputed in (False, True):
        x, sizes = torch.randn(2, 8, 6, 5, generator=torch.Generator().manual_seed(1)).requires_grad_(), []

        def counted(t: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(t.numel())
            return t

        with torch.autograd.graph.saved_tensors_hooks(counted, lambda t: t):
            y = block(x)
        y.square().sum().backward()
        gradients.append(x.grad)
        kept.append(sum(sizes))
    assert torch.equal(*gradients)
    assert kept[1] < kept[0] / 3


def test_calibrating_recomputes_residual_blocks_only_while_it_lasts() -> None:
    model = RestorerModel()
    model.unet = nn.Sequential(FusedResnetBlock(ResnetBlock2D(in_channels=8, groups=4, temb_channels=None)))
    for asked in (False, True):
        with model.gradient_checkpointing(residual_blocks=asked):
            assert model.unet[0].recomputed is asked
        assert not model.unet[0].recomputed
