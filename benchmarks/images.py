"""The faces and photos beside the project, and images as tensors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

SHARED = Path(__file__).resolve().parents[2] / "shared"


def load(folder: Path) -> list[NDArray[np.uint8]]:
    """All .jpg images of a folder in name order, [H, W, 3] uint8 RGB each; without any the script ends."""
    paths = sorted(folder.glob("*.jpg"))
    if not paths:
        sys.exit(f"{folder}: no .jpg images: see benchmarks/README.md on the faces that are measured")
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def to_unit(images: list[NDArray[np.uint8]]) -> Tensor:
    """Images [H, W, 3] uint8 of one size -> [B, 3, H, W] float32 in 0 to 1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def as_stored(images: Tensor) -> Tensor:
    """Images in 0 to 1 rounded to 8 bits, as in a user's file."""
    return (images.clamp(0, 1) * 255).round() / 255
