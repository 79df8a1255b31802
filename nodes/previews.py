"""What the nodes send to their widgets in the page (web/js): images as files, numbers as values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import ui

from . import host

if TYPE_CHECKING:
    from ..quantface_core.types import BitPlan

_SCREEN = 2048  # pixels, the longest side of a shown image
_TOGETHER = 4 * _SCREEN**2  # pixels of all images shown together: the host keeps every run's files until it restarts
_MOST = 24  # frames of a video that are shown: each is two files


def before_after(before: torch.Tensor, after: torch.Tensor, cls: type, notes: Sequence[str] = ()) -> dict[str, object]:
    """For the slider: frames [N, H, W, 3] before and after, which may differ in size; the notes are shown below it,
    one per line. Cancellation is checked before each file.
    """
    step = math.ceil(len(after) / _MOST)
    pair = {"quantface_before": before[::step, ..., :3], "quantface_after": after[::step, ..., :3]}
    return {key: _files(frames, cls) for key, frames in pair.items()} | notes_below(notes)


def crops(frames: torch.Tensor, cls: type) -> dict[str, object]:
    """The first of a node's images, possibly none, in the host's own preview.

    For a list of images the host merges all results by the keys of the first, so the keys must not vary.
    """
    if not len(frames):
        return {"images": [], "animated": (False,)}
    shown: dict[str, object] = ui.PreviewImage(frames[:_MOST], cls=cls).as_dict()
    return shown


def notes_below(notes: Sequence[str]) -> dict[str, object]:
    """Notes shown on the node, one per line; one list for each run, as the host joins those of a list of images."""
    return {"quantface_notes": [list(notes)]}


def _files(frames: torch.Tensor, cls: type) -> list[object]:
    """Save frames at a size for the screen, as the host lists files; the more there are, the smaller."""
    side, files = min(_SCREEN, math.isqrt(_TOGETHER // len(frames))), list[object]()
    for frame in frames.split(1):
        host.stop_if_cancelled()
        saved: Any = ui.PreviewImage(_downscaled(frame, side), cls=cls).as_dict()
        files += saved["images"]
    return files


def _downscaled(frame: torch.Tensor, longest: int) -> torch.Tensor:
    """Downscale to a longest side: a huge photo's preview would take longer to write than its faces to restore."""
    share = longest / max(frame.shape[1:3])
    if share >= 1:
        return frame
    size = [max(1, round(side * share)) for side in frame.shape[1:3]]
    return torch.nn.functional.interpolate(frame.movedim(-1, 1), size=size, mode="area").movedim(1, -1)


def bits(plan: BitPlan, values: Mapping[str, float], meaning: str) -> dict[str, object]:
    """For the chart: each layer's widths and a value that `meaning` names to the page, in the order of the network."""
    layers = [[name, *widths, values.get(name)] for name, widths in plan.layers.items()]
    return {"quantface_bits": [{"meaning": meaning, "layers": layers}]}
