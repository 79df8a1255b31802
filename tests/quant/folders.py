"""What the tests of diffusers' own folders share: a low-bit autoencoder, and what is in its folder."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL

import quantface_core as qf

from .checkpoints import CONFIG, IMAGES, autoencoder

pytest.importorskip("accelerate", reason="diffusers loads low-bit models by accelerate")
if tuple(map(int, diffusers.__version__.split(".")[:2])) < (0, 33):
    pytest.skip("this diffusers loads no low-bit models on the CPU", allow_module_level=True)

WEIGHTS = "diffusion_pytorch_model.safetensors"
LAYER = "decoder.conv_in"


@cache
def low_bit() -> AutoencoderKL:
    model = autoencoder()
    qf.quantize(model, IMAGES, CONFIG)
    return model


def quantized() -> AutoencoderKL:
    return copy.deepcopy(low_bit())


def output(model: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    with torch.no_grad():
        made: torch.Tensor = model(IMAGES[0].to(dtype)).sample
    return made


def described(folder: Path) -> dict[str, Any]:
    """What a folder says of low-bit layers."""
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())["quantization_config"]
    return found
