"""Padding by a word is the padding by its numbers, and such convolutions are quantized."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import quantface_core as qf
from quantface_core.nn.swap import quant_layers
from quantface_core.nn.zero_padding import zero_padding
from tests.conftest import FAST


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (3, 5), (2, 2)])
@pytest.mark.parametrize("word", ["same", "valid"])
def test_words_are_numbers(kernel: tuple[int, int], word: str) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 4, kernel, padding=word), torch.randn(2, 3, 7, 6)
    padding = zero_padding(layer)
    assert (padding is None) == (word == "same" and kernel == (2, 2))  # one side gets more
    if padding is not None:
        torch.testing.assert_close(F.conv2d(x, layer.weight, layer.bias, 1, padding), layer(x), rtol=0, atol=1e-6)


def test_other_values_are_none() -> None:
    assert zero_padding(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")) is None
    assert zero_padding(nn.Conv2d(3, 4, 3, padding="same", padding_mode="circular")) is None
    assert zero_padding(nn.Conv2d(3, 4, 3, padding=(1, 2))) == (1, 2)


def test_convolutions_padded_by_a_word_are_quantized(tmp_path: Path) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        words = [nn.Conv2d(8, 16, 3, padding="same"), nn.SiLU(), nn.Conv2d(16, 16, 1, padding="same")]
        return nn.Sequential(*words, nn.SiLU(), nn.Conv2d(16, 8, 3, stride=2, padding="valid")).eval()

    model, images = build(), [torch.randn(2, 8, 13, 12)]
    with torch.no_grad():
        exact = model(images[0])
        qf.quantize(model, images, FAST)
        assert list(quant_layers(model)) == ["0", "2", "4"]
        close = model(images[0])
        assert (close - exact).norm() < 0.2 * exact.norm()
        qf.save_quantized(model, tmp_path / "words.safetensors")
        loaded = qf.load_quantized(tmp_path / "words.safetensors", build())
        assert torch.equal(loaded(images[0]), close)
