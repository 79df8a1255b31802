"""What the nodes hand to their widgets in the page (web/js): pictures as files, numbers as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import ui

if TYPE_CHECKING:
    from ..quantface_core.types import BitPlan

_MOST = 24  # frames of a video that are shown: each is two files


def before_after(before: torch.Tensor, after: torch.Tensor, cls: type, notes: Sequence[str] = ()) -> dict[str, Any]:
    """For the slider: frames [N, H, W, 3] and what became of them, of any size; below it, a line each, notes."""
    step = math.ceil(len(after) / _MOST)
    pair = {"quantface_before": before[::step, ..., :3], "quantface_after": after[::step, ..., :3]}
    shown = {key: ui.PreviewImage(frames, cls=cls).as_dict()["images"] for key, frames in pair.items()}
    return {**shown, "quantface_notes": list(notes)}


def bits(plan: BitPlan, values: Mapping[str, float], meaning: str) -> dict[str, Any]:
    """For the chart: each layer's widths and a value that `meaning` names, in the order of the network."""
    layers = [[name, *widths, values.get(name)] for name, widths in plan.layers.items()]
    return {"quantface_bits": [{"meaning": meaning, "layers": layers}]}
