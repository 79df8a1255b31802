"""Modules put in the places of others, where torch would otherwise read past them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quantface_core.nn.replace import replace_by_name
from quantface_core.nn.swap import swap
from tests.nn.layers import balanced


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_encoders_call_their_low_bit_linears(dtype: torch.dtype) -> None:
    """Torch's shortcut would read the weights instead, and its nested tensors reach the layers without it."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2).eval().to(dtype)
    x, pads = torch.randn(2, 5, 32, dtype=dtype), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    name, called = "layers.1.linear1", []
    plain = encoder.get_submodule(name)
    low, _ = balanced(nn.Linear(32, 64), rank=4, seed=0)
    low.register_buffer("bias", None)
    swap(encoder, {name: low})
    forward = low.forward
    low.forward = lambda x: called.append(x) or forward(x)  # type: ignore[method-assign] a hook ends the shortcut too
    with torch.no_grad():
        assert encoder(x).dtype == dtype
        assert encoder(x, src_key_padding_mask=pads).shape == x.shape
    assert len(called) == 2
    assert encoder.layers[0].activation_relu_or_gelu == 1  # which has its own linears
    replace_by_name(encoder, {name: plain})
    assert encoder.layers[1].activation_relu_or_gelu == 1
    assert encoder.use_nested_tensor is True
