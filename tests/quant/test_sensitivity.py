"""Sensitivities of models of any make: sizes are the file's, and outputs without a variance take nothing over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import quantface_core as qf
from quantface_core.quant.bit_program import summarize_plan, uniform
from quantface_core.quant.observe import calibrate
from quantface_core.quant.quantize import plan_formats
from quantface_core.quant.sensitivity import measure_layers
from quantface_core.types import Sensitivity

CONFIG = qf.QuantConfig(rank=2)


class Words(nn.Module):
    """A linear whose weight is an embedding's, one that stays, and tables."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.middle, self.kept = nn.Embedding(40, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.norm, self.out = nn.BatchNorm1d(16), nn.Linear(16, 40, bias=False)
        self.out.weight = self.words.weight
        self.register_buffer("table", torch.zeros(7, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.norm(self.kept(torch.relu(self.middle(self.words(x))))))


def measured(
    model: nn.Module, batch: torch.Tensor, dtype: torch.dtype | None = None, exclude: list[str] | None = None
) -> Sensitivity:
    formats = plan_formats(model, CONFIG, exclude=exclude)
    return measure_layers(model, calibrate(model, [batch]), [batch], formats, CONFIG, dtype=dtype)


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_megabytes_are_those_of_the_file_s_tensors(tmp_path: Path, dtype: torch.dtype | None) -> None:
    model, tokens = Words().eval(), torch.arange(40)
    sensitivity = measured(model, tokens, dtype, ["kept"])
    plan = uniform(sensitivity, 4, 4)
    qf.quantize(model, [tokens], CONFIG, exclude=["kept"], plan=plan)
    qf.save_quantized(model, tmp_path / "file", dtype)
    stored = sum(tensor.nbytes for tensor in load_file(tmp_path / "file").values())
    assert summarize_plan(plan, sensitivity)["megabytes"] * 1e6 == pytest.approx(stored)


def test_outputs_without_a_variance_take_nothing_over() -> None:
    class Several(nn.Module):
        """A prediction, one number, a constant, zeros and nothing."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body, self.more = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8)), True

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            y = self.body(x)
            loss = y.square().mean()
            return [y, loss, loss.expand(3), 0 * loss, y[:0]] if self.more else [y]

    model, batch = Several().eval(), torch.randn(32, 16, generator=torch.Generator().manual_seed(1))
    several = measured(model, batch)
    model.more = False
    for name, one in measured(model, batch).layers.items():
        assert one.error / 3 <= several.layers[name].error < 1.01 * one.error


def test_a_vector_is_one_token() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8))
    assert [layer.macs for layer in measured(model, torch.randn(16)).layers.values()] == [256, 128]
    qf.allocate(model, [torch.randn(16)], qf.Budget(activation_bits=5))


def test_noise_that_a_forward_draws_is_the_same_every_time() -> None:
    torch.manual_seed(0)
    model, rows = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8)).eval(), torch.randn(32, 16)

    def noisy(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = model(batch)
        return made + 10 * torch.randn(made.shape)

    measured = qf.measure_sensitivity(model, [rows, rows + 1], CONFIG, forward=noisy)
    assert all(layer.error < 1e-3 for layer in measured.layers.values())  # were it not, it would be about 2


def test_windows_and_repeated_calls_count_in_full() -> None:
    class Windows(nn.Module):
        """Four windows of four tokens, one layer on them and one called twice, then a convolution over two images."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.windowed, self.twice, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Conv2d(16, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.windowed(x.view(-1, 4, 16)).view_as(x)
            return self.last(self.twice(self.twice(y)).transpose(1, 2).unflatten(2, (4, 4)))

    layers = measured(Windows().eval(), torch.randn(2, 16, 16)).layers
    assert {name: layer.macs for name, layer in layers.items()} == {
        "windowed": 2 * 16 * 256,
        "twice": 2 * 2 * 16 * 256,
        "last": 2 * 16 * 128,
    }
