"""What the nodes send to their widgets in the page (web/js): images as files, numbers as values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import ui

from . import host
from .pictures import from_chart

if TYPE_CHECKING:
    from ..quantface_core.types import BitPlan, Face

_SCREEN = 2048  # pixels, the longest side of a shown image
_TOGETHER = 4 * _SCREEN**2  # pixels of all images shown together: the host keeps every run's files until it restarts
_MOST = 24  # frames of a video that are shown: each is two files


def before_after(before: torch.Tensor, after: torch.Tensor, cls: type, notes: Sequence[str] = ()) -> dict[str, object]:
    """For the slider: frames [N, H, W, 3] before and after, which may differ in size; the notes are shown below it,
    one per line. Cancellation is checked before each file.
    """
    step = math.ceil(len(after) / _MOST)
    first, second = (_files(frames[::step, ..., :3], cls) for frames in (before, after))
    # The page takes each file that is listed for a result of the node; in a list of their own, files are not.
    return {"quantface_before": [first], "quantface_after": second} | notes_below(notes)


def numbered(
    images: torch.Tensor, faces: Sequence[tuple[Sequence[Face], Sequence[int]]], cls: type
) -> dict[str, object]:
    """In the host's own preview: images [N, H, W, 3] with their faces framed and numbered.

    `faces` are each image's, and the numbers of the chosen ones. Cancellation is checked before each file. The keys do
    not vary: for a list of images the host merges all results by the keys of the first.
    """
    from ..quantface_core.charts import draw_numbered

    shown = range(0, len(images), math.ceil(len(images) / _MOST))
    side, files = _side(len(shown)), list[object]()
    for index in shown:
        frame = _downscaled(images[index : index + 1], side)[0]
        pixels = (frame.clamp(0, 1) * 255).round().byte().cpu().numpy()
        scale = max(frame.shape[:2]) / max(images.shape[1:3])
        files += _saved(from_chart(draw_numbered(pixels, *faces[index], scale)), cls)
    return {"images": files, "animated": (False,)}


def notes_below(notes: Sequence[str]) -> dict[str, object]:
    """Notes shown on the node, one per line; one list for each run, as the host joins those of a list of images."""
    return {"quantface_notes": [list(notes)]}


def _files(frames: torch.Tensor, cls: type) -> list[object]:
    """Save frames at a size for the screen, as the host lists files."""
    side = _side(len(frames))
    return [file for frame in frames.split(1) for file in _saved(_downscaled(frame, side), cls)]


def _side(count: int) -> int:
    """The longest side of so many shown images: the more there are, the smaller."""
    return min(_SCREEN, math.isqrt(_TOGETHER // count))


def _saved(frame: torch.Tensor, cls: type) -> list[object]:
    """Save one image [1, H, W, 3], as the host lists files."""
    host.stop_if_cancelled()
    saved: Any = ui.PreviewImage(frame, cls=cls).as_dict()
    return list(saved["images"])


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
