"""The tiny restorer's faces, and the low-bit model that learns from it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.quantize import calibrate_restorer, quantize_restorer
from tests.conftest import FAST


@pytest.fixture(scope="session")
def faces() -> Tensor:
    """Smooth random pictures, [12, 3, 64, 64] in [-1, 1]."""
    coarse = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic").clamp(-1, 1)


@pytest.fixture(scope="session")
def quantized(tiny: OneStepRestorer, faces: Tensor) -> OneStepRestorer:
    model = copy.deepcopy(tiny)
    settings = replace(FAST, weight_bits=3, activation_bits=4)
    quantize_restorer(model, calibrate_restorer(model, faces[:4]), faces[:2], settings)
    return model


@pytest.fixture
def low(quantized: OneStepRestorer) -> OneStepRestorer:
    return copy.deepcopy(quantized)
