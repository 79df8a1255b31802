"""Reading ncnn's file of weights, here of a narrow network."""

from __future__ import annotations

from pathlib import Path

import esrgan
import pytest
import torch
from torch import nn


def write_ncnn(model: nn.Module, path: Path) -> None:
    """float16 weights after their mark, the last ones float32, as its converter leaves small ones; float32 biases."""
    convs = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    content = b""
    for layer in convs:
        mark, kind = (0, torch.float32) if layer is convs[-1] else (0x01306B47, torch.float16)
        assert layer.bias is not None
        weights = layer.weight.data.to(kind).numpy().tobytes()
        content += mark.to_bytes(4, "little") + weights + bytes(-len(weights) % 4) + layer.bias.data.numpy().tobytes()
    path.write_bytes(content)


@pytest.fixture
def written(tmp_path: Path) -> tuple[esrgan.ESRGAN, Path]:
    torch.manual_seed(0)
    model = esrgan.ESRGAN(channels=3, growth=1, blocks=1).eval()  # odd numbers of weights, which are padded
    write_ncnn(model, tmp_path / "narrow.bin")
    return model, tmp_path / "narrow.bin"


def test_weights_come_back(written: tuple[esrgan.ESRGAN, Path]) -> None:
    model, path = written
    again = esrgan.ESRGAN(channels=3, growth=1, blocks=1).eval()
    esrgan.read_ncnn(again, path)
    assert torch.equal(again.last.weight, model.last.weight)
    assert torch.equal(again.first.weight, model.first.weight.half().float())
    image = torch.rand(1, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        made = again(image)
        torch.testing.assert_close(made, model(image), atol=1e-3, rtol=0)
    assert made.shape == (1, 3, 20, 16)


@pytest.mark.parametrize("blocks", [2, 3])
def test_another_networks_file_is_refused(written: tuple[esrgan.ESRGAN, Path], blocks: int) -> None:
    with pytest.raises(ValueError, match=r"not of this network|smaller than requested"):
        esrgan.read_ncnn(esrgan.ESRGAN(channels=3, growth=1, blocks=blocks), written[1])


def test_a_longer_file_is_refused(written: tuple[esrgan.ESRGAN, Path]) -> None:
    _, path = written
    path.write_bytes(path.read_bytes() + bytes(4))
    with pytest.raises(ValueError, match=r"narrow\.bin is not of this network"):
        esrgan.read_ncnn(esrgan.ESRGAN(channels=3, growth=1, blocks=1), path)
