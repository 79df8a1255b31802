"""Attention by products of matrices, for bfloat16 on processors without matrix units.

Torch's own CPU attention there takes 1.3 to 2 times as long: it was the largest part of a low-bit UNet.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 512  # whose scores are held at once: they stay in the cache
_FEW = 1 << 22  # scores of all heads, up to which they are computed at once
_STEADY = 100.0  # scores no farther from zero are powers of two that need no common factor


@cache
def _has_matrix_units() -> bool:
    known = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(known and known())


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention, [B, heads, N, D] over [B, heads, M, D] -> [B, heads, N, D], no mask."""
    plain = query.device.type != "cpu" or query.dtype != torch.bfloat16 or torch.is_grad_enabled()
    if plain or _has_matrix_units():
        return F.scaled_dot_product_attention(query, key, value)
    # A score that all keys share changes no softmax; without the keys' mean the rounded scores are smaller.
    key = key - key.mean(2, keepdim=True)
    query = query * (query.shape[-1] ** -0.5 / math.log(2))  # for powers of two
    steady = float(_longest(query) * _longest(key)) <= _STEADY
    if query.shape[:3].numel() * key.shape[2] <= _FEW:
        return _attended(query @ key.transpose(-1, -2), value, steady)
    out = torch.empty(query.shape, dtype=query.dtype)
    held = torch.empty(_ROWS, key.shape[2], dtype=query.dtype)
    for b in range(len(query)):
        for q, k, v, rows in zip(query[b], key[b], value[b], out[b], strict=True):
            for start in range(0, len(q), _ROWS):
                piece = slice(start, start + _ROWS)
                scores = torch.mm(q[piece], k.t(), out=held[: len(q[piece])])
                rows[piece] = _attended(scores, v, steady)
    return out


def _longest(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1).amax()


def _attended(scores: Tensor, value: Tensor, steady: bool) -> Tensor:
    """Rows of scores, of powers of two, to rows of what they attend to; the scores are overwritten."""
    if not steady:
        scores -= scores.amax(-1, keepdim=True)
    # Divided by their sum not as weights but as the fewer numbers that come of them.
    weights = torch.exp2(scores, out=scores)
    return (weights @ value).div_(weights.sum(-1, keepdim=True))


class AttentionProcessor:
    """Diffusers' attention blocks over `attention`: self- or cross-attention, on maps or tokens."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """[B, N, C] or [B, C, H, W] -> the same shape. Masks and time embeddings do not occur in our models."""
        x, residual, maps = hidden_states, hidden_states, hidden_states.shape
        if len(maps) == 4:
            x = x.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            x = attn.group_norm(x.transpose(1, 2)).transpose(1, 2)
        context = x if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            t.unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for t in (attn.to_q(x), attn.to_k(context), attn.to_v(context))
        )
        x = attn.to_out[0](attention(q, k, v).transpose(1, 2).flatten(2))
        if len(maps) == 4:
            x = x.transpose(1, 2).reshape(maps)
        if attn.residual_connection:
            x = x + residual
        return x if attn.rescale_output_factor == 1 else x / attn.rescale_output_factor
