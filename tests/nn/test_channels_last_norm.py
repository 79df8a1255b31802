"""Group norms that choose their kernel."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quantface_core.nn.channels_last_norm import ChannelsLastGroupNorm, replace_norms


def test_norms_are_replaced_with_their_weights() -> None:
    model = nn.Sequential(nn.GroupNorm(2, 4, eps=1e-3), nn.GroupNorm(2, 4, affine=False), nn.Conv2d(4, 4, 1))
    nn.init.normal_(model[0].weight)
    x = torch.randn(2, 4, 5, 6)
    expected, names = model(x), set(model.state_dict())
    replace_norms(model)
    assert type(model[0]) is ChannelsLastGroupNorm
    assert type(model[1]) is nn.GroupNorm
    assert set(model.state_dict()) == names
    assert torch.equal(model(x), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maps_in_any_order_give_the_same_on_a_gpu(dtype: torch.dtype) -> None:
    norm = ChannelsLastGroupNorm(8, 32).to("cuda", dtype).requires_grad_(False)
    x = torch.randn(2, 32, 30, 40, device="cuda").to(dtype)
    with torch.inference_mode():
        last = norm(x.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, norm(x), rtol=1e-4 if dtype == torch.float32 else 1e-2, atol=1e-2)
