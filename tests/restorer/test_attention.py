"""Attention in pieces is attention; the processor is diffusers' own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from quantface_core.restorer import attention as room
from quantface_core.restorer.attention import AttentionProcessor, attention


@pytest.mark.parametrize("few", [0, 1 << 23], ids=["in pieces", "at once"])
@pytest.mark.parametrize(
    ("tokens", "loud", "bound"), [(1024, 1.0, 1e-3), (700, 1.0, 1e-3), (700, 8.0, 1e-3), (700, 1e3, 2e-2)]
)
def test_by_products_as_torch(
    monkeypatch: pytest.MonkeyPatch, tokens: int, loud: float, bound: float, few: int
) -> None:
    """Loud queries' scores reach far: without a common factor their powers of two would be infinite."""
    monkeypatch.setattr(room, "_FEW", few)
    monkeypatch.setattr(room, "_has_matrix_units", lambda: False)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 16, generator=generator).bfloat16() for n in (1024, tokens, tokens))
    q = q * loud
    exact = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    with torch.no_grad():
        error = (attention(q, k, v).float() - exact).square().mean() / exact.square().mean()
    assert error < bound
    assert torch.equal(attention(q.float(), k.float(), v.float()), exact)


@pytest.mark.parametrize("maps", [True, False])
def test_the_processor_is_diffusers(maps: bool) -> None:
    torch.manual_seed(0)
    block = Attention(
        32,
        cross_attention_dim=None if maps else 24,
        heads=2,
        dim_head=16,
        norm_num_groups=8 if maps else None,
        residual_connection=maps,
        rescale_output_factor=2.0,
    )
    x = torch.randn(2, 32, 6, 5) if maps else torch.randn(2, 30, 32)
    context = None if maps else torch.randn(2, 7, 24)
    ours = AttentionProcessor()(block, x, context)
    torch.testing.assert_close(ours, AttnProcessor2_0()(block, x, context))
