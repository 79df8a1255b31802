"""Files and batches that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import quantface_core as qf
from tests.quant.checkpoints import CONFIG, IMAGES, ROWS, Masked, autoencoder


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, model = tmp_path_factory.mktemp("checkpoint") / "vae.safetensors", autoencoder()
    qf.quantize(model, IMAGES, CONFIG)
    qf.save_quantized(model, path, notes={"licence": "test"})
    return path


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, model = tmp_path_factory.mktemp("checkpoint") / "own.safetensors", Masked()
    qf.quantize(model, ROWS, CONFIG, exclude=["second"])
    qf.save_quantized(model, path)
    return path


@pytest.fixture
def images() -> list[torch.Tensor]:
    return list(torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
