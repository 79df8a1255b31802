"""Transformer blocks that keep maps in channels-last layout, and gates computed in pieces that fit the cache.

Diffusers' own transformers make maps contiguous after every block, which the next convolution has to undo.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..nn.fused import fuses, linear_add, norm_linear
from ..nn.marks import GatesFirstHalf, PlainBlock
from ..nn.replace import replace_modules
from .attention import AttentionProcessor

_PIECE = 1 << 20  # elements gated at once


class Transformer(nn.Module):
    """Replacement for diffusers' `Transformer2DModel`, with its submodule names."""

    gradient_checkpointing = False  # diffusers switches it on; since 0.33 it also sets the function below
    _gradient_checkpointing_func: Callable[..., Tensor] = staticmethod(partial(checkpoint, use_reentrant=False))

    def __init__(self, model: Transformer2DModel) -> None:
        super().__init__()
        self.norm, self.proj_in = model.norm, model.proj_in
        self.transformer_blocks, self.proj_out = model.transformer_blocks, model.proj_out
        self.on_tokens: bool = model.use_linear_projection  # projections are linears on tokens, else 1x1 convolutions

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> tuple[Tensor]:
        """Maps [B, C, H, W], prompt [B, M, P] -> (maps [B, C, H, W],). Masks and class labels are ignored."""
        sides, x = hidden_states.shape[2:], self.norm(hidden_states)
        x = self.proj_in(_tokens(x)) if self.on_tokens else _tokens(self.proj_in(x))
        for block in self.transformer_blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(block, x, None, encoder_hidden_states)
            else:
                x = block(x, encoder_hidden_states=encoder_hidden_states)
        if self.on_tokens and fuses(self.proj_out):
            return (_maps(linear_add(self.proj_out, x, _tokens(hidden_states)), sides),)
        x = _maps(self.proj_out(x), sides) if self.on_tokens else self.proj_out(_maps(x, sides))
        return (hidden_states + x,)


class Block(BasicTransformerBlock, PlainBlock):  # type: ignore[misc]
    """Diffusers' block, which passes norms, skips and gates to its layers where these can fuse them."""

    @classmethod
    def of(cls, block: BasicTransformerBlock) -> Block:
        """A `Block` that shares the layers and attributes of a plain block."""
        made = cls.__new__(cls)
        made.__dict__ = block.__dict__
        return made

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: None = None,
        encoder_hidden_states: Tensor | None = None,
        **more: Any,
    ) -> Tensor:
        """Tokens [B, N, C], prompt [B, M, P] -> [B, N, C]. Where layers fuse, masks and class labels are ignored."""
        gate, out = self.ff.net[0].proj, self.ff.net[2]
        ours = all(isinstance(a.processor, AttentionProcessor) for a in (self.attn1, self.attn2))
        if not ours or not all(fuses(layer) for layer in (self.attn1.to_q, self.attn2.to_q, gate, out)):
            given = {"encoder_hidden_states": encoder_hidden_states, **more}
            return super().forward(hidden_states, attention_mask, **given)
        x = self.attn1(hidden_states, norm=self.norm1, skip=hidden_states)
        x = self.attn2(x, encoder_hidden_states=encoder_hidden_states, norm=self.norm2, skip=x)
        return linear_add(out, norm_linear((gate,), self.norm3, x)[0], x, gated=True)


def _tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


def _maps(tokens: Tensor, sides: torch.Size) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, tuple(sides))


class Gated(nn.Module, GatesFirstHalf):
    """Replacement for diffusers' `GEGLU`, with its submodule name: half of a linear's output times the other's GELU."""

    def __init__(self, block: GEGLU) -> None:
        super().__init__()
        self.proj = block.proj

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, D]."""
        values, gates = self.proj(x).chunk(2, -1)
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return values * F.gelu(gates)
        y = values.new_empty(values.shape)
        step = max(1, _PIECE // values.shape[-1])
        for piece in (slice(start, start + step) for start in range(0, x.shape[1], step)):
            # Copied first: GELU of a non-contiguous tensor takes twice as long.
            torch.mul(values[:, piece], F.gelu(gates[:, piece].contiguous()), out=y[:, piece])
        return y


def replace_transformers(model: nn.Module) -> None:
    """Replace diffusers' plain modules by `Transformer`, `Block` and `Gated`, which reuse their layers, in place."""

    def replacement(module: Any) -> nn.Module | None:
        if type(module) is Transformer2DModel and module.is_input_continuous:
            return Transformer(module)
        return Gated(module) if type(module) is GEGLU else None

    replace_modules(model, replacement)
    replace_modules(model, lambda m: Block.of(m) if type(m) is BasicTransformerBlock and _is_plain(m) else None)


def _is_plain(block: Any) -> bool:
    """Whether a block consists of layer norms, two attentions and a gated feed-forward alone."""
    attentions = (block.attn1, block.attn2)
    if block.norm_type != "layer_norm" or block.pos_embed is not None or block._chunk_size is not None:
        return False
    if any(a is None or a.residual_connection or a.rescale_output_factor != 1 for a in attentions):
        return False
    net = block.ff.net
    alone = not block.only_cross_attention and not hasattr(block, "fuser")
    return alone and len(net) == 3 and isinstance(net[0], Gated) and not net[1].p
