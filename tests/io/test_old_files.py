"""A restorer's file that commit 7a16680 wrote, tiny and with random weights: it loads and restores as it did then."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
import torch

from quantface_core.io.checkpoint import load_restorer, read_notes, save_restorer
from quantface_core.kernels import reference
from quantface_core.nn.swap import prepare, quant_layers
from quantface_core.types import Bits

OLD = Path(__file__).with_name("old")


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    path = tmp_path / "old.safetensors"
    path.write_bytes(lzma.decompress((OLD / "restorer.safetensors.xz").read_bytes()))
    return path


def test_it_gives_the_same_picture_to_the_bit(old_file: Path) -> None:
    """In float64: the last bits, in which processors differ, do not reach the picture's float32."""
    restorer = load_restorer(old_file, dtype=torch.float64)
    assert {layer.format.bits for layer in quant_layers(restorer).values()} == {Bits(4, 6), Bits(8, 8)}
    prepare(restorer, reference)
    faces = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        picture = restorer(faces)[:1]
    assert np.array_equal(picture.numpy(), np.load(OLD / "restored.npy"))


def test_written_again_it_is_the_same_file(old_file: Path, tmp_path: Path) -> None:
    save_restorer(load_restorer(old_file), tmp_path / "again.safetensors", notes=read_notes(old_file))
    assert (tmp_path / "again.safetensors").read_bytes() == old_file.read_bytes()
