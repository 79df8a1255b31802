"""Files and batches that several tests read."""

from __future__ import annotations

from collections.abc import Iterator
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


@pytest.fixture
def registered() -> Iterator[None]:
    """Diffusers knows the quantizer in these tests only."""
    from diffusers.quantizers import auto

    qf.register_quantizer()
    yield
    for known in (auto.AUTO_QUANTIZER_MAPPING, auto.AUTO_QUANTIZATION_CONFIG_MAPPING):
        del known["quantface"]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `save_pretrained` wrote."""
    from .folders import quantized

    folder = tmp_path_factory.mktemp("saved")
    quantized().save_pretrained(folder)
    return folder
