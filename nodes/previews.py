"""What the nodes hand to their widgets in the page (web/js): pictures as files, numbers as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import ui

if TYPE_CHECKING:
    from ..quantface_core.types import BitPlan

_SCREEN = 2048  # pixels, the longest side of what is shown
_MOST = 24  # frames of a video that are shown: each is two files


def before_after(before: torch.Tensor, after: torch.Tensor, cls: type, notes: Sequence[str] = ()) -> dict[str, object]:
    """For the slider: frames [N, H, W, 3] and what became of them, of any size; below it, a line each, notes."""
    step = math.ceil(len(after) / _MOST)
    pair = {"quantface_before": before[::step, ..., :3], "quantface_after": after[::step, ..., :3]}
    shown = {key: ui.PreviewImage(_shown(frames), cls=cls).as_dict()["images"] for key, frames in pair.items()}
    return shown | notes_below(notes)


def crops(frames: torch.Tensor, cls: type) -> dict[str, object]:
    """The first of a node's pictures, in the host's own preview; also of none.

    The host reads from all results of a list of pictures what the first one has.
    """
    if not len(frames):
        return {"images": [], "animated": (False,)}
    shown: dict[str, object] = ui.PreviewImage(frames[:_MOST], cls=cls).as_dict()
    return shown


def notes_below(notes: Sequence[str]) -> dict[str, object]:
    """What the user should know, a line each, on the node."""
    return {"quantface_notes": list(notes)}


def _shown(frames: torch.Tensor) -> torch.Tensor:
    """Frames no larger than a screen: a huge photo's file would take longer to write than its faces to restore."""
    share = _SCREEN / max(frames.shape[1:3])
    if share >= 1:
        return frames
    size = [max(1, round(side * share)) for side in frames.shape[1:3]]
    return torch.nn.functional.interpolate(frames.movedim(-1, 1), size=size, mode="area").movedim(1, -1)


def bits(plan: BitPlan, values: Mapping[str, float], meaning: str) -> dict[str, object]:
    """For the chart: each layer's widths and a value that `meaning` names to the page, in the order of the network."""
    layers = [[name, *widths, values.get(name)] for name, widths in plan.layers.items()]
    return {"quantface_bits": [{"meaning": meaning, "layers": layers}]}
