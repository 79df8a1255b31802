"""Where a restorer's balances can be folded into producers: diffusers' rules, and those of its own blocks."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..nn.fold import FoldPath
from ..quant.fold_rules import DIFFUSERS, FoldRule, context_values, layer_path, norm_path
from . import embedder
from .transformer import Transformer


def transformer(module: nn.Module) -> Iterator[FoldPath]:
    """Norm to input projection."""
    if isinstance(module, Transformer):
        yield from norm_path(module.norm, module.proj_in)


def embedder_attention(module: nn.Module) -> Iterator[FoldPath]:
    """As for diffusers' attention: norm to query, key and value projections; value to output projection."""
    if isinstance(module, embedder.Attention):
        yield from norm_path(module.norm1, module.q, module.k, module.v)
        yield from layer_path(module.v, module.proj_out)


RULES: tuple[FoldRule, ...] = (*DIFFUSERS, context_values, transformer, embedder_attention)
