"""Layers that read one input and may balance and round it once: queries, keys and values of an attention."""

from __future__ import annotations

from diffusers.models.attention_processor import Attention
from torch import nn


def shared_input_groups(model: nn.Module) -> list[list[str]]:
    """Names of the layers of each group, in the model's order; a layer is in one group at most."""
    groups = []
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            parts = ("to_k", "to_v") if module.is_cross_attention else ("to_q", "to_k", "to_v")
            linears = [part for part in parts if isinstance(getattr(module, part, None), nn.Module)]
            groups.append([f"{name}.{part}" if name else part for part in linears])
    return [group for group in groups if group]
