"""Balances are folded where that is exact and nowhere else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import MethodType

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor, IPAdapterAttnProcessor2_0
from torch import nn

import quantface_core as qf
from quantface_core.nn.fold import multiply
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.fold_rules import DIFFUSERS, fold_paths
from quantface_core.restorer import transformer as restorer

TOKENS = torch.randn(2, 24, 64, generator=torch.Generator().manual_seed(0))
CONTEXT = torch.randn(2, 6, 48, generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    """One transformer block, its channels as unlike as a real one's."""

    def __init__(self, **kind: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block = BasicTransformerBlock(64, 4, 16, **kind)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.LayerNorm) and module.elementwise_affine:
                    module.weight.copy_(torch.rand(64) * 3 + 0.1)
                    module.bias.normal_()
            self.block.ff.net[0].proj.weight.mul_(torch.rand(len(self.block.ff.net[0].proj.weight), 1) * 4)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None, time: torch.Tensor | None = None):
        return self.block(x, encoder_hidden_states=context, timestep=time)


@torch.no_grad()
def signal_to_noise(model: nn.Module, exact: nn.Module, *given: torch.Tensor) -> float:
    wanted = exact(*given)
    return float(10 * torch.log10(wanted.square().mean() / (model(*given) - wanted).square().mean()))


def quantized(block: nn.Module, *given: torch.Tensor) -> nn.Module:
    model = copy.deepcopy(block)
    qf.quantize(model, [given], qf.QuantConfig(8, 8, rank=0))
    return model


@pytest.mark.parametrize("activation", ["geglu", "gelu", "gelu-approximate"])
def test_no_activation_but_a_gate_is_folded_through(activation: str) -> None:
    """Folded through a plain GELU, as the rules once did, 41 dB became 4."""
    block = Block(activation_fn=activation).eval()
    assert signal_to_noise(quantized(block, TOKENS), block, TOKENS) > 35
    producers = [path.producer for path in fold_paths(block, DIFFUSERS)]
    assert (block.block.ff.net[0].proj in producers) == (activation == "geglu")
    assert block.block.norm3 in producers


def test_norms_without_weights_are_passed_over() -> None:
    """These raised an AttributeError after the layers had been swapped."""
    block = Block(norm_elementwise_affine=False).eval()
    assert signal_to_noise(quantized(block, TOKENS), block, TOKENS) > 35
    assert not any(isinstance(path.producer, nn.LayerNorm) for path in fold_paths(block, DIFFUSERS))


def test_modulated_norms_are_passed_over() -> None:
    """PixArt's shift by the time embedding comes after the norm, and would not be scaled with it."""
    block = Block(norm_type="ada_norm_single", num_embeds_ada_norm=10, cross_attention_dim=48).eval()
    time = torch.randn(2, 6 * 64, generator=torch.Generator().manual_seed(2))
    given = (TOKENS, CONTEXT, time)
    assert signal_to_noise(quantized(block, *given), block, *given) > 30
    assert not any(isinstance(path.producer, nn.LayerNorm) for path in fold_paths(block, DIFFUSERS))


def test_positions_added_to_a_norm_keep_it_from_being_folded() -> None:
    block = Block(positional_embeddings="sinusoidal", num_positional_embeddings=32).eval()
    assert signal_to_noise(quantized(block, TOKENS), block, TOKENS) > 35
    assert block.block.norm1 not in [path.producer for path in fold_paths(block, DIFFUSERS)]


@pytest.mark.parametrize(
    "kind", [{}, {"cross_attention_dim": 48}, {"cross_attention_dim": 48, "activation_fn": "gelu"}]
)
def test_every_path_leaves_the_output(kind: dict) -> None:
    """Channels multiplied where they are made and divided where they are read: in floats, nothing changes."""
    block = Block(**kind).eval().requires_grad_(False)
    given = (TOKENS, CONTEXT) if "cross_attention_dim" in kind else (TOKENS,)
    model = copy.deepcopy(block)
    paths = fold_paths(model, DIFFUSERS)
    assert len(paths) >= 3
    generator = torch.Generator().manual_seed(3)
    for path in paths:
        factors = torch.rand(path.consumers[0].weight.shape[1], generator=generator) * 4 - 6
        multiply(path.producer, path.rows, factors)
        for consumer in path.consumers:
            consumer.weight.div_(factors)
    assert torch.allclose(model(*given), block(*given), atol=1e-4)


def test_a_context_that_may_be_left_out_keeps_the_norm_before_it() -> None:
    """Keys and values then read what queries do, and would be scaled with it."""
    block = Block(cross_attention_dim=64).eval()
    assert block.block.norm2 not in [path.producer for path in fold_paths(block, DIFFUSERS)]
    assert signal_to_noise(quantized(block, TOKENS), block, TOKENS) > 35


class _NormReadTwice(BasicTransformerBlock):
    def forward(self, x: torch.Tensor, *given: object, **named: object) -> torch.Tensor:
        return super().forward(x, *given, **named) + self.norm1(x)


class _ValuesReadTwice(Attention):
    def forward(self, x: torch.Tensor, *given: object, **named: object) -> torch.Tensor:
        return super().forward(x, *given, **named) + self.to_v(x)


def _patched() -> BasicTransformerBlock:
    block = BasicTransformerBlock(64, 4, 16, activation_fn="geglu")
    block.forward = MethodType(_NormReadTwice.forward, _as(block, _NormReadTwice))
    return block


def _as(module: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """The same module, of another class."""
    made = kind.__new__(kind)
    made.__dict__ = module.__dict__
    return made


@pytest.mark.parametrize(
    "make",
    [
        lambda: _NormReadTwice(64, 4, 16, activation_fn="geglu"),
        _patched,
        lambda: _as(Block(activation_fn="geglu").block, type("Derived", (restorer.Block,), {})),
        lambda: _ValuesReadTwice(64, heads=4, dim_head=16, norm_num_groups=8),
    ],
    ids=["subclass", "patched", "of a marked one", "attention"],
)
def test_a_forward_of_its_own_may_read_what_is_inside_once_more(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    module = make()
    assert [path.producer for path in fold_paths(module, DIFFUSERS)] == (
        [module.attn1.to_v] if hasattr(module, "attn1") else []
    )


def test_a_block_that_reads_its_norm_twice_keeps_its_output() -> None:
    block = Block(activation_fn="geglu")
    block.block = _as(block.block, _NormReadTwice)
    assert signal_to_noise(quantized(block.eval(), TOKENS), block, TOKENS) > 35


@pytest.mark.parametrize(
    ("part", "producers"),
    [
        ("norm1", ["norm1"]),
        ("attn1.to_v", ["norm1", "attn1.to_v"]),
        ("ff", ["norm3", "ff.net.0.proj"]),
        ("ff.net.0", ["norm3", "ff.net.0.proj"]),
    ],
)
@pytest.mark.parametrize("hooked", [False, True])
def test_parts_with_hooks_or_a_forward_of_their_own_are_passed_over(
    part: str, producers: list[str], hooked: bool
) -> None:
    """As an adapter's: it adds to the values what no scaled weight would scale."""
    block = Block(activation_fn="geglu")
    before = {path.producer for path in fold_paths(block, DIFFUSERS)}
    module = block.block.get_submodule(part)
    if hooked:
        module.register_forward_hook(lambda _, __, output: output.relu())
    else:
        module.forward = module.forward
    after = {path.producer for path in fold_paths(block, DIFFUSERS)}
    assert before - after == {block.block.get_submodule(name) for name in producers}


class _Reweighted(AttnProcessor):
    """A processor of one's own: who knows what it adds."""


def test_an_unknown_processor_is_passed_over() -> None:
    attention = Attention(64, heads=4, dim_head=16, norm_num_groups=8)
    assert len(fold_paths(attention, DIFFUSERS)) == 2
    attention.set_processor(_Reweighted())
    assert fold_paths(attention, DIFFUSERS) == []


def test_values_beside_others_are_passed_over() -> None:
    attention = Attention(64, cross_attention_dim=48, heads=4, dim_head=16, added_kv_proj_dim=32)
    assert fold_paths(attention, DIFFUSERS) == []


def test_an_ip_adapter_may_come_after_quantizing() -> None:
    """It adds values of its own to the context's, and would be out of scale beside folded ones."""
    exact = Block(cross_attention_dim=48).eval()
    model = quantized(exact, TOKENS, CONTEXT)
    added = CONTEXT.flip(1)[:, None, :4]
    for block in (model, exact):
        torch.manual_seed(1)
        adapter = IPAdapterAttnProcessor2_0(64, 48, num_tokens=(4,), scale=3)
        block.block.attn2.set_processor(adapter)  # type: ignore[union-attr,operator]
    assert signal_to_noise(model, exact, TOKENS, (CONTEXT, [added])) > 30


def test_a_group_norm_is_folded_into_what_reads_its_maps_alone() -> None:
    """In a cross-attention keys and values read the context instead."""
    options = {"heads": 4, "dim_head": 16, "norm_num_groups": 8}
    norms = [
        [path.producer for path in fold_paths(made, DIFFUSERS)].count(made.group_norm)
        for made in (Attention(64, **options), Attention(64, cross_attention_dim=64, **options))
    ]
    assert norms == [1, 0]


def test_a_norm_that_two_blocks_share_is_passed_over() -> None:
    first, second = Block(), Block()
    second.block.norm1 = first.block.norm1
    producers = [path.producer for path in fold_paths(nn.ModuleList([first, second]), DIFFUSERS)]
    assert first.block.norm1 not in producers
    assert first.block.norm3 in producers


def test_a_layer_left_in_floats_takes_the_balance_of_its_reader_over() -> None:
    block = Block().eval()
    model = copy.deepcopy(block)
    config = qf.QuantConfig(8, 8, rank=0, search_rotation=False)  # else it has none here, and no scaling
    qf.quantize(model, [TOKENS], config, include=["*.to_out.0"])
    assert list(quant_layers(model)) == ["block.attn1.to_out.0"]
    assert not torch.equal(model.block.attn1.to_v.weight, block.block.attn1.to_v.weight)
    assert signal_to_noise(model, block, TOKENS) > 35


def test_cancelled_at_its_end_a_second_call_leaves_what_the_first_has_made() -> None:
    """Layers of low bits already, which fold with those to come, as producers and as consumers."""
    model, config = Block(activation_fn="geglu").eval(), qf.QuantConfig(8, 8, rank=0, search_rotation=False)
    after = ["*.to_out", "*.to_q", "*.to_k", "block.ff.net.2"]
    qf.quantize(model, [TOKENS], config, exclude=after)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def cancel(done: int, of: int) -> None:
        if done == of:
            raise KeyboardInterrupt

    exact = copy.deepcopy(model)
    with pytest.raises(KeyboardInterrupt):
        qf.quantize(model, [TOKENS], config, include=after, progress=cancel)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    qf.quantize(model, [TOKENS], config, include=after)
    folded = [name for name, tensor in model.state_dict().items() if name in before and tensor.equal(before[name])]
    assert len(folded) < len(before) - len(after)  # something was to be lost
    assert signal_to_noise(model, exact, TOKENS) > 35
