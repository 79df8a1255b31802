"""Image quality metrics by name, through pyiqa (whose licence forbids commercial use; benchmarks only).

Import this before anything that imports diffusers.
"""

from __future__ import annotations

import sys

import torch
from images import SHARED
from torch import Tensor

# With a CPU build of torch, PyPI's torchvision does not register its operators and fails at import, and diffusers with
# it; nothing measured here calls them, so a declaration is enough. Kept alive: deleting the library would undo it.
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _operator in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _operator):
        _LIBRARY.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def create_metric(name: str) -> torch.nn.Module:
    """A pyiqa metric for [B, 3, H, W] in 0 to 1. Exits with advice if pyiqa is not installed."""
    try:
        import pyiqa
    except ImportError as error:
        sys.exit(f"{error}\nbenchmarks need pyiqa: see benchmarks/README.md")
    niqe_model = SHARED / "models" / "niqe_modelparameters_from_basicsr.mat"
    options = {"pretrained_model_path": str(niqe_model)} if name == "niqe" and niqe_model.exists() else {}
    return pyiqa.create_metric(name, **options)


@torch.inference_mode()
def score(metric: torch.nn.Module, images: Tensor, references: Tensor | None = None) -> Tensor:
    """One score per image, [B] float64, computed one by one to save memory."""
    values = []
    for i in range(len(images)):
        pair = [images[i : i + 1]] + ([references[i : i + 1]] if references is not None else [])
        values.append(metric(*pair).reshape(()).double())
    return torch.stack(values)
