"""Where a restorer's channels pass through nothing but linear maps: diffusers' rules, and those of its own blocks."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..nn.fold import FoldPath, fold
from ..quant.fold_rules import DIFFUSERS, FoldRule, fold_paths, layer_path, norm_path
from . import embedder
from .transformer import Transformer


def transformer(module: nn.Module) -> Iterator[FoldPath]:
    """Norm to projection."""
    if isinstance(module, Transformer):
        yield from norm_path(module.norm, module.proj_in)


def embedder_attention(module: nn.Module) -> Iterator[FoldPath]:
    """As of diffusers' attention: norm to queries, keys and values; values to the output."""
    if isinstance(module, embedder.Attention):
        yield from norm_path(module.norm1, module.q, module.k, module.v)
        yield from layer_path(module.v, module.proj_out)


RULES: tuple[FoldRule, ...] = (*DIFFUSERS, transformer, embedder_attention)


def fold_balances(model: nn.Module) -> int:
    """Give low-bit layers' scales and signs to what makes their inputs, in place, where exact; how often it was."""
    return sum(fold(path) for path in fold_paths(model, RULES))
