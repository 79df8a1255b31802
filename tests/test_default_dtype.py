"""Results are the same whatever torch's default dtype is: a host, or a script beside us, may have set its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import quantface_core as qf
from quantface_core.io.checkpoint import load_restorer
from quantface_core.metrics import BUILTIN_METRICS
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.compensate import ridge
from quantface_core.quant.fisher import metric_root
from quantface_core.restorer import OneStepRestorer

pytestmark = pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, torch.float16], ids=str)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(12, 24, 3, padding=1), nn.Linear(24, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(nn.functional.silu(self.conv(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def batches() -> list[Tensor]:
    return list(torch.randn(4, 8, 12, 8, 8, generator=torch.Generator().manual_seed(1)))


def assert_same(model: nn.Module, other: nn.Module) -> None:
    """Tensors, dtypes and formats of two quantized models."""
    layers, others = quant_layers(model), quant_layers(other)
    assert {name: layer.format for name, layer in layers.items()} == {n: layer.format for n, layer in others.items()}
    torch.testing.assert_close(dict(model.state_dict()), dict(other.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("branch", ["fisher", "svd"])
def test_quantize(branch: str, default: torch.dtype, net: nn.Module, batches: list[Tensor]) -> None:
    config, models = qf.QuantConfig(rank=4, branch=branch), [copy.deepcopy(net) for _ in range(2)]
    for model, dtype in zip(models, (torch.float32, default), strict=True):
        with default_dtype(dtype):
            qf.quantize(model, batches, config)
    assert_same(*models)


def test_distill_with_learned_clips(default: torch.dtype, net: nn.Module, batches: list[Tensor]) -> None:
    low, losses = copy.deepcopy(net), []
    qf.quantize(low, batches, qf.QuantConfig(3, 4, rank=4, rounding="nearest"))
    trainer = qf.TrainerConfig(steps=4, batch_size=2, accumulation=2, learning_rate=1e-3, warmup=1)
    settings = qf.DistillConfig(trainer, rank=4, learn_clips=True, precision="float32")
    models = [low, copy.deepcopy(low)]
    for model, dtype in zip(models, (torch.float32, default), strict=True):
        with default_dtype(dtype):
            losses.append(qf.distill(model, net, batches, settings).losses)
    assert losses[0] == losses[1]
    assert_same(*models)


def test_what_stands_where_nothing_can_be_solved(default: torch.dtype) -> None:
    x, error = torch.cat([torch.zeros(4, 4), torch.ones(4, 4)]), torch.ones(8, 3)  # nothing is seen in the first half
    with default_dtype(default):
        assert ridge(x, error, x.t() @ x).dtype == torch.float32
        assert metric_root(torch.full((4, 4), torch.nan, dtype=torch.float32)).dtype == torch.float32


@torch.no_grad()
def test_seeded_restoring(default: torch.dtype, tiny: OneStepRestorer) -> None:
    faces = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = tiny(faces, [1, 2])
    with default_dtype(default):
        assert torch.equal(tiny(faces, [1, 2]), wanted)


@torch.no_grad()
def test_gfpgans_seeded_noise(default: torch.dtype, published: Path) -> None:
    restorer = load_restorer(published / "GFPGANv1.4.pth")
    faces = torch.rand(1, 3, restorer.image_size, restorer.image_size, generator=torch.Generator().manual_seed(0))
    wanted = restorer(faces, [1])
    with default_dtype(default):
        assert torch.equal(restorer(faces, [1]), wanted)


@pytest.mark.parametrize("name", BUILTIN_METRICS)
def test_metrics(name: str, default: torch.dtype) -> None:
    pictures, references = torch.rand(2, 1, 3, 176, 176, generator=torch.Generator().manual_seed(0))
    wanted = BUILTIN_METRICS[name](pictures, references)
    with default_dtype(default):
        torch.testing.assert_close(BUILTIN_METRICS[name](pictures, references), wanted, rtol=0, atol=0)
