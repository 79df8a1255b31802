"""Upsampling blocks against diffusers' own, in full precision and low bits."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from diffusers.models.upsampling import Upsample2D
from torch import nn

from quantface_core.nn.swap import empty_like, swap
from quantface_core.restorer.upsample import Upsample, replace_upsamplers
from quantface_core.types import LayerFormat


def blocks() -> tuple[Upsample2D, nn.Sequential]:
    torch.manual_seed(0)
    block = Upsample2D(8, use_conv=True, out_channels=6)
    model = nn.Sequential(copy.deepcopy(block))
    replace_upsamplers(model)
    return block, model


def test_blocks_match_diffusers() -> None:
    block, model = blocks()
    assert isinstance(model[0], Upsample)
    assert list(model[0].state_dict()) == list(block.state_dict())
    x = torch.randn(2, 8, 6, 5)
    assert torch.equal(model[0](x), block(x))
    assert torch.equal(model[0](x, (11, 9)), block(x, (11, 9)))


@torch.inference_mode()
def test_low_bit_layers_read_the_map_before_upsampling() -> None:
    """The same as the layer gives for doubled pixels, its branch included."""
    _, model = blocks()
    layer = empty_like(model[0].conv, LayerFormat(4, 4, rank=3, block=8))
    layer.packed.random_(0, 256, generator=torch.Generator().manual_seed(0))
    layer.weight_scale.uniform_(0.01, 0.02)
    layer.down.normal_(0, 0.1)
    layer.up.normal_(0, 0.1)
    swap(model, {"0.conv": layer})
    assert layer.fuse_upsample
    x = torch.randn(2, 8, 6, 5)
    asked = []
    layer.register_forward_pre_hook(lambda *_: asked.append(1))
    y = model(x)
    assert not asked
    expected = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
