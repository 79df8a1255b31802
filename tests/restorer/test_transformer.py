"""Transformers on maps against diffusers' own."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from quantface_core.restorer.transformer import Gated, Transformer, replace_transformers


def made(linear: bool) -> tuple[Transformer2DModel, nn.Module]:
    """Diffusers' block, and ours of the same weights."""
    torch.manual_seed(0)
    theirs = Transformer2DModel(
        2, 8, in_channels=16, norm_num_groups=4, cross_attention_dim=12, use_linear_projection=linear
    )
    model = nn.ModuleList([copy.deepcopy(theirs)])
    replace_transformers(model)
    return theirs, model[0]


@pytest.mark.parametrize("linear", [True, False])
def test_blocks_match_diffusers(linear: bool) -> None:
    theirs, ours = made(linear)
    assert isinstance(ours, Transformer)
    assert any(isinstance(layer, Gated) for layer in ours.modules())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x, prompt = torch.randn(2, 16, 6, 5), torch.randn(2, 3, 12)
    expected = theirs(x, prompt, return_dict=False)[0]
    assert torch.allclose(ours(x, encoder_hidden_states=prompt, return_dict=False)[0], expected, atol=1e-5)
    with torch.inference_mode():
        assert torch.allclose(ours(x, encoder_hidden_states=prompt)[0], expected, atol=1e-5)


def test_maps_keep_their_layout() -> None:
    _, ours = made(True)
    x, prompt = torch.randn(1, 16, 6, 5), torch.randn(1, 3, 12)
    for layout in (torch.contiguous_format, torch.channels_last):
        assert ours(x.contiguous(memory_format=layout), prompt)[0].is_contiguous(memory_format=layout)


def test_checkpointed_gradients_are_the_same() -> None:
    _, ours = made(True)
    x, prompt = torch.randn(1, 16, 6, 5, requires_grad=True), torch.randn(1, 3, 12)
    found = []
    for on in (False, True):
        ours.gradient_checkpointing = on
        ours._gradient_checkpointing_func = lambda *given: torch.utils.checkpoint.checkpoint(
            *given, use_reentrant=False
        )
        found += torch.autograd.grad(ours(x, prompt)[0].square().sum(), x)
    assert torch.equal(*found)
