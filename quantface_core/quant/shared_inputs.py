"""Layers that share an input and can balance and round it once: an attention's queries, keys and values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from ..types import LayerFormat
from .observe import ChannelStatistics


def shared_input_groups(model: nn.Module, statistics: Mapping[str, ChannelStatistics] | None = None) -> list[list[str]]:
    """Names of the layers of each group, in the model's order; a layer is in at most one group.

    Without `statistics`, the layers that may share an input. With them, those that did: an attention whose class
    declares no context may be called with one, which keys and values then read instead of the queries' input.
    """
    groups = []
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            crosses = getattr(module, "is_cross_attention", False)  # HiDream's attention skips its class's constructor
            parts = ("to_k", "to_v") if crosses else ("to_q", "to_k", "to_v")
            linears = [part for part in parts if isinstance(getattr(module, part, None), nn.Module)]
            group = [f"{name}.{part}" if name else part for part in linears]
            groups += [group] if statistics is None else _by_input(group, statistics)
    return [group for group in groups if group]


def search_groups(
    model: nn.Module, statistics: Mapping[str, ChannelStatistics], formats: Mapping[str, LayerFormat]
) -> dict[str, list[str]]:
    """The layers with a format to search together, those that share an input and its width, by the first of them."""
    sharing = {name: group for group in shared_input_groups(model, statistics) for name in group}
    groups: dict[str, list[str]] = {}
    for name, fmt in formats.items():
        if not any(name in group for group in groups.values()):
            together = (n for n in sharing.get(name, [name]) if n in formats)
            groups[name] = [n for n in together if formats[n].activation_bits == fmt.activation_bits]
    return groups


def _by_input(group: list[str], statistics: Mapping[str, ChannelStatistics]) -> list[list[str]]:
    """Group layers by input: one input has the same largest magnitudes to the bit, another practically never."""
    parts: list[list[str]] = []
    for name in group:
        if name not in statistics:
            continue
        largest = statistics[name].largest
        same = (part for part in parts if torch.equal(statistics[part[0]].largest, largest))
        if part := next(same, None):
            part.append(name)
        else:
            parts.append([name])
    return parts
