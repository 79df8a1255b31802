"""Where a restorer's channels pass through nothing but linear maps: from norms and layers to those that read them."""

from __future__ import annotations

from collections.abc import Iterator

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import nn

from ..nn.fold import Way, fold
from ..nn.qlayer import QuantLayer
from . import embedder
from .transformer import Transformer


def linear_ways(model: nn.Module) -> Iterator[Way]:
    """All of them, in the model's order."""
    return (way for module in model.modules() for way in _within(module))


def _within(module: nn.Module) -> Iterator[Way]:
    if isinstance(module, BasicTransformerBlock):
        first, second = module.attn1, module.attn2
        gated, down = module.ff.net[0].proj, module.ff.net[2]
        yield _all(module.norm1, first.to_q, first.to_k, first.to_v)
        yield _all(module.norm2, second.to_q)
        yield _all(module.norm3, gated)
        yield Way(gated, slice(_inputs(down)), [down])  # the half that is gated: the gate is not linear
    elif isinstance(module, Transformer):
        yield _all(module.norm, module.proj_in)
    elif isinstance(module, Attention):
        yield _all(module.to_v, module.to_out[0])
        if module.group_norm is not None:
            yield _all(module.group_norm, module.to_q, module.to_k, module.to_v)
    elif isinstance(module, embedder.Attention):
        yield _all(module.norm1, module.q, module.k, module.v)
        yield _all(module.v, module.proj_out)


def _all(maker: nn.Module, *readers: nn.Module) -> Way:
    return Way(maker, slice(None), readers)


def _inputs(layer: nn.Module) -> int:
    return layer.shape[1] if isinstance(layer, QuantLayer) else layer.get_parameter("weight").shape[1]


def fold_balances(model: nn.Module) -> int:
    """Give low-bit layers' scales and signs to what makes their inputs, in place, where exact; how often it was."""
    return sum(fold(way) for way in linear_ways(model))
