"""docs/format.md: its reader gives the weights that layers have, and it leaves no field or tensor out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import quantface_core as qf
from quantface_core.nn.fold import FoldPath, fold
from quantface_core.nn.qlayer import QuantLayer
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.formats import VERSIONS
from quantface_core.quant.model_file import RESERVED
from quantface_core.types import LayerFormat

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text("utf-8")
READER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
CONFIG = qf.QuantConfig(activation_bits=6, rank=4, rounding="nearest", branch="svd", search_rotation=False, block=240)


def read_weights(path: Path) -> dict[str, np.ndarray]:
    made: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {}
    exec(READER, made)  # type: ignore[arg-type]
    return made["read_weights"](path)


class Small(nn.Module):
    """Channels whose rotations are of every factor: 2, 12, 20, 12 x 2 and 20 x 12; one layer mixes none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.strided = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 20, (3, 1), stride=2)
        self.pixels, self.skip = nn.Conv2d(20, 12, 1), nn.Conv2d(12, 16, 1, stride=2, bias=False)
        self.norm, self.first, self.second = nn.LayerNorm(16), nn.Linear(16, 240), nn.Linear(240, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.skip(self.pixels(self.strided(self.conv(x)).tanh()).tanh())
        return self.second(self.first(self.norm(maps.flatten(2).mT)).tanh())


def assert_read(path: Path, layers: dict[str, QuantLayer], names: list[str] | None = None) -> None:
    made = read_weights(path)
    assert list(made) == list(layers)
    for name in names or layers:
        weight = layers[name].weight.numpy()
        assert made[name].dtype == np.float32
        assert made[name].shape[:2] == weight.shape[:2]
        largest = float(np.abs(weight).max())
        np.testing.assert_allclose(made[name].reshape(weight.shape), weight, rtol=0, atol=2e-6 * largest, err_msg=name)


@pytest.mark.parametrize("branch_bits", [8, 16])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_the_page_s_reader_gives_the_layers_weights(bits: int, branch_bits: int, tmp_path: Path) -> None:
    model = Small().eval()
    batch = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(bits))
    qf.quantize(model, [batch], replace(CONFIG, weight_bits=bits, branch_bits=branch_bits))
    qf.save_quantized(model, tmp_path / "file")
    layers = quant_layers(model)
    assert {layer.format.block for layer in layers.values()} == {1, 24, 20, 12, 16, 240}
    assert_read(tmp_path / "file", layers)


@pytest.mark.parametrize("bits", [3, 5, 7])
def test_it_reads_folded_layers_and_those_without_a_branch(bits: int, tmp_path: Path) -> None:
    model = Small().eval()
    batch = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(bits))
    qf.quantize(model, [batch], replace(CONFIG, weight_bits=bits, rank=0, seed=5))
    assert fold(FoldPath(model.norm, slice(0, 16), [model.first]))
    assert set(quant_layers(model)["first"].channel_scale.tolist()) == {-1.0, 1.0}
    qf.save_quantized(model, tmp_path / "file")
    assert_read(tmp_path / "file", quant_layers(model))


def test_it_reads_the_bundled_model() -> None:
    path = qf.restorer_path("quantface-mini-w4a4")
    layers = quant_layers(qf.load_restorer(path))
    assert_read(path, layers, list(layers)[::12])


def test_the_reader_needs_numpy_and_safetensors_alone() -> None:
    found = {line.split()[1] for line in READER.splitlines() if re.match("(import|from) ", line)}
    assert found == {"json", "numpy", "safetensors"}


def test_the_page_names_every_field_and_tensor() -> None:
    layer = QuantLayer((8, 8), LayerFormat(4, 4, rank=2, branch_bits=8), bias=True)
    names = {f.name for f in fields(LayerFormat)} | set(RESERVED) | set(layer.state_dict())
    assert {name for name in names if f"`{name}`" not in PAGE} == set()
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == list(VERSIONS)
