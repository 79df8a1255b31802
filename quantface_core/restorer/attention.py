"""Attention as plain matrix products, for bfloat16 on CPUs without matrix units (AMX).

There torch's own CPU attention takes 1.3 to 2 times as long, and would dominate the run time of a low-bit UNet.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.fused import fuses, linear_add, norm_linear
from ..nn.marks import PlainAttention
from ..nn.qlayer import QuantLayer
from ..nn.qlinear import project

_BUFFERED = 1 << 21  # scores of one head held at once: they stay in the cache
_FEW = 1 << 22  # scores of all heads up to which all heads are computed at once
_STEADY = 100.0  # log2 of the weights: within this bound the softmax needs no shift by the maximum
_OCTAVE = 1 << 7  # bfloat16 values between consecutive powers of two
_ONE = 127 * _OCTAVE  # the bit pattern of 1.0
_COARSE_BITS = 6  # bits of activations up to which rounding exceeds the error of coarse weights


@cache
def _has_matrix_units() -> bool:
    known = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(known and known())


def attention(query: Tensor, key: Tensor, value: Tensor, coarse: bool = False) -> Tensor:
    """Softmax attention, [B, heads, N, D] over [B, heads, M, D] -> [B, heads, N, D], no mask.

    `coarse` allows an approximate exponential, only used in bfloat16: weights are accurate to 3 %, outputs, being
    weighted means, to about 2 %.
    """
    plain = query.device.type != "cpu" or query.dtype != torch.bfloat16 or torch.is_grad_enabled()
    if plain or _has_matrix_units():
        return F.scaled_dot_product_attention(query, key, value)
    if len(query) > 1:  # batch-invariant: an image's rounding must not depend on the others
        images = zip(query.split(1), key.split(1), value.split(1), strict=True)
        return torch.cat([attention(q, k, v, coarse) for q, k, v in images])
    unit = _OCTAVE if coarse else 1  # increase of a score that doubles its weight
    step = unit * query.shape[-1] ** -0.5 / math.log(2)
    # Softmax ignores an offset common to all keys; subtracting the keys' mean makes the rounded scores smaller.
    key = torch.add(key.sum(2, keepdim=True).mul_(-step / key.shape[2]), key, alpha=step)
    steady = float(_longest(query) * _longest(key)) <= unit * _STEADY
    if query.shape[:3].numel() * key.shape[2] <= _FEW:
        weights = _weights(query @ key.transpose(-1, -2), unit, steady)
        return (weights @ value).div_(weights.sum(-1, keepdim=True))
    return _by_head(query, key, value, unit, steady)


def _by_head(query: Tensor, key: Tensor, value: Tensor, unit: int, steady: bool) -> Tensor:
    """`attention` of one image, [1, heads, N, D], over scaled keys: a head at a time, in pieces that fit the cache."""
    _, heads, count, width = query.shape
    # Tokens before heads in memory, the layout of the output projection's input.
    out = query.new_empty(1, count, heads, width).transpose(1, 2)
    sums = query.new_empty(1, count, heads, 1).transpose(1, 2)
    rows = max(1, _BUFFERED // key.shape[2])
    buffer = query.new_empty(rows, key.shape[2])
    for head in range(heads):
        keys, values = key[0, head].t(), value[0, head]
        for piece, result, total in zip(*(t[0, head].split(rows) for t in (query, out, sums)), strict=True):
            scores = torch.mm(piece, keys, out=buffer if len(piece) == rows else buffer[: len(piece)])
            weights = _weights(scores, unit, steady)
            torch.mm(weights, values, out=result)
            torch.sum(weights, -1, keepdim=True, out=total)
    # Normalise the output instead of the weights: it has fewer elements.
    return out.div_(sums)


def _longest(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1).amax()


def _weights(scores: Tensor, unit: int, steady: bool) -> Tensor:
    """2^(scores / unit) up to a common factor per row, in place; unnormalised softmax weights."""
    if not steady:
        scores.sub_(scores.amax(-1, keepdim=True)).clamp_min_(-unit * _STEADY)
    if unit == 1:
        return torch.exp2(scores, out=scores)
    # Five times faster: 2^x, linearly interpolated between powers of two. A float's bit pattern, read as an integer,
    # grows by one octave as its value doubles.
    scores.view(torch.int16).copy_(scores).add_(_ONE)
    return scores


class AttentionProcessor(PlainAttention):
    """Attention processor for diffusers that computes by `attention`: self- or cross-attention, on maps or tokens."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        norm: nn.Module | None = None,
        skip: Tensor | None = None,
    ) -> Tensor:
        """[B, N, C] or [B, C, H, W] -> the same shape. Masks and time embeddings, which our models lack, are ignored.

        `norm` is applied to the hidden states first, but not to the context; `skip` [B, N, C] is added last.
        """
        residual, maps = hidden_states, hidden_states.shape
        x = _tokens(attn, hidden_states)
        if encoder_hidden_states is None:
            projected = norm_linear((attn.to_q, attn.to_k, attn.to_v), norm, x)
        else:
            projected = norm_linear((attn.to_q,), norm, x)
            projected += project((attn.to_k, attn.to_v), encoder_hidden_states)
        q, k, v = (t.unflatten(2, (attn.heads, -1)).transpose(1, 2) for t in projected)
        x = attention(q, k, v, _rounds_coarsely(attn.to_out[0])).transpose(1, 2).flatten(2)
        added = [t for t in (residual if attn.residual_connection else None, skip) if t is not None]
        if len(added) == 1 and fuses(attn.to_out[0]):
            more = added.pop()
            x = linear_add(attn.to_out[0], x, more.flatten(2).transpose(1, 2) if more.ndim == 4 else more)
        else:
            x = attn.to_out[0](x)
        if len(maps) == 4:
            x = x.transpose(1, 2).reshape(maps)
        for more in added:
            x = x + more
        return x if attn.rescale_output_factor == 1 else x / attn.rescale_output_factor


def _tokens(attn: Any, x: Tensor) -> Tensor:
    """A map [B, C, H, W] or tokens [B, N, C] as tokens, after the group norm of the attention if it has one."""
    if x.ndim == 4 and attn.group_norm is not None and x.device.type != "cpu":
        return attn.group_norm(x).flatten(2).transpose(1, 2)  # on the map, for which there is a kernel
    if x.ndim == 4:
        x = x.flatten(2).transpose(1, 2)
    return x if attn.group_norm is None else attn.group_norm(x.transpose(1, 2)).transpose(1, 2)


def _rounds_coarsely(layer: Any) -> bool:
    """Whether a layer rounds its input to so few bits that the error of coarse attention does not matter."""
    return isinstance(layer, QuantLayer) and layer.format.activation_bits <= _COARSE_BITS
