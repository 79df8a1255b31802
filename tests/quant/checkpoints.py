"""What the tests of files hold: an autoencoder of diffusers', and a model of one's own; and a file's header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import quantface_core as qf


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    return AutoencoderKL(**blocks, block_out_channels=(16,), norm_num_groups=4, layers_per_block=1).eval()


class Masked(nn.Module):
    """Layers of one's own, with a mask that holds infinity and a count that is whole."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("mask", torch.full((8,), float("-inf")))
        self.register_buffer("count", torch.tensor(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x) + self.mask.clamp_min(0)) * self.count


IMAGES = [torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1]
ROWS = [torch.randn(5, 8, generator=torch.Generator().manual_seed(0))]
CONFIG = qf.QuantConfig(rank=2)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as opened:
        return dict(opened.metadata())


def rewritten(path: Path, target: Path, **changes: Any) -> Path:
    """The same tensors under changed metadata; None drops a field."""
    save_file(load_file(path), target, {k: v for k, v in {**metadata(path), **changes}.items() if v is not None})
    return target


def version_and_layers(path: Path) -> tuple[str, dict[str, Any]]:
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    return metadata["version"], json.loads(metadata["layers"])
