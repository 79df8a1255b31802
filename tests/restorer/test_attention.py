"""Attention in pieces is attention; the processor is diffusers' own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from quantface_core.nn.qlinear import QuantLinear
from quantface_core.quant.shared_inputs import shared_input_groups
from quantface_core.restorer import QUANTFACE_MINI, OneStepRestorer
from quantface_core.restorer import attention as room
from quantface_core.restorer.attention import AttentionProcessor, attention
from quantface_core.types import LayerFormat


@pytest.mark.parametrize("few", [0, 1 << 23], ids=["in pieces", "at once"])
@pytest.mark.parametrize(
    ("tokens", "loud", "bound"), [(1024, 1.0, 1e-3), (700, 1.0, 1e-3), (700, 8.0, 1e-3), (700, 1e3, 2e-2)]
)
def test_attention_matches_torch(
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


@pytest.mark.parametrize("few", [0, 1 << 23], ids=["in pieces", "at once"])
@pytest.mark.parametrize("loud", [1.0, 8.0, 1e3])
def test_coarse_weights_are_within_three_percent(monkeypatch: pytest.MonkeyPatch, loud: float, few: int) -> None:
    """Of three keys, among which nothing averages out; loud scores are as far off in both, by bfloat16's rounding."""
    monkeypatch.setattr(room, "_FEW", few)
    monkeypatch.setattr(room, "_BUFFERED", 1000)  # the last piece is shorter
    monkeypatch.setattr(room, "_has_matrix_units", lambda: False)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 2, n, 16, generator=generator).bfloat16() for n in (700, 3))
    q, v = q * loud, torch.eye(3, 16).expand(1, 2, 3, 16).bfloat16()
    with torch.no_grad():
        fine, coarse = (attention(q, k, v, coarse=c).float()[..., :3] for c in (False, True))
    assert (fine.sum(-1) - 1).abs().amax() < 0.01
    assert 0 < (coarse - fine).abs().amax() < 0.025


@pytest.mark.parametrize("coarse", [False, True])
def test_attention_is_batch_invariant(monkeypatch: pytest.MonkeyPatch, coarse: bool) -> None:
    monkeypatch.setattr(room, "_has_matrix_units", lambda: False)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 64, 16, generator=generator).bfloat16() for _ in range(3))
    q[1] *= 1000
    with torch.no_grad():
        assert torch.equal(attention(q, k, v, coarse)[:1], attention(q[:1], k[:1], v[:1], coarse))


@pytest.mark.parametrize(("bits", "coarse"), [(4, True), (6, True), (7, False), (8, False), (None, False)])
def test_attention_is_coarse_before_layers_of_few_bits(
    bits: int | None, coarse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, seen = Attention(16, heads=2, dim_head=8), []
    if bits:
        block.to_out[0] = QuantLinear((16, 16), LayerFormat(4, bits), bias=True)

    def watched(q: Tensor, k: Tensor, v: Tensor, coarse: bool) -> Tensor:
        seen.append(coarse)
        return q

    monkeypatch.setattr(room, "attention", watched)
    with torch.no_grad():
        AttentionProcessor()(block, torch.randn(1, 5, 16))
    assert seen == [coarse]


def test_queries_keys_and_values_share_an_input() -> None:
    unet = OneStepRestorer(QUANTFACE_MINI).unet
    groups = shared_input_groups(unet)
    assert groups
    for group in groups:
        layers = [unet.get_submodule(name) for name in group]
        assert len({layer.in_features for layer in layers}) == 1
        alone = ".attn2." in group[0]
        assert [name.rpartition(".")[2] for name in group] == (["to_k", "to_v"] if alone else ["to_q", "to_k", "to_v"])


@pytest.mark.parametrize("maps", [True, False])
def test_the_processor_matches_diffusers(maps: bool) -> None:
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
