"""The precision of training beside a model's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import quantface_core as qf
from quantface_core.train.autocast import autocast, scales_loss
from tests.train.test_distill import SETTINGS

OTHER = [(torch.float16, "bfloat16"), (torch.bfloat16, "float16")]


@pytest.mark.parametrize(("dtype", "precision"), OTHER)
def test_a_model_with_norms_learns_in_the_other_half_precision(dtype: torch.dtype, precision: str) -> None:
    """Torch's norms on CPUs do not mix the two."""
    torch.manual_seed(0)
    norms = nn.GroupNorm(4, 16), nn.BatchNorm2d(16)
    teacher = nn.Sequential(nn.Conv2d(4, 16, 3), norms[0], nn.SiLU(), nn.Conv2d(16, 16, 3), norms[1], nn.Flatten(2))
    teacher = nn.Sequential(teacher, nn.LayerNorm(16), nn.Linear(16, 8)).eval().to(dtype)
    batches = list(torch.randn(4, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype))
    model = copy.deepcopy(teacher)
    qf.quantize(model, batches[:2], qf.QuantConfig(3, 4, rank=2, rounding="nearest"), exclude=["2"])
    before = {name: t.clone() for name, t in model.state_dict().items() if t.dtype == dtype}
    settings = qf.DistillConfig(SETTINGS.trainer, rank=2, precision=precision)
    losses = qf.distill(model, teacher, batches, settings).losses
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert model(batches[0]).dtype == dtype
    after = model.state_dict()
    assert all(torch.equal(after[name], t) for name, t in before.items() if ".down" not in name and ".up" not in name)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.filterwarnings("error")
def test_products_are_computed_in_the_precision_of_the_run(precision: str) -> None:
    x = torch.ones(2, 2)
    with autocast(x.device, qf.DistillConfig(precision=precision)):
        assert (x @ x).dtype == getattr(torch, precision)


def test_gradients_that_pass_through_float16_are_scaled() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = nn.Linear(2, 2).to(dtype)
        assert scales_loss(model, qf.DistillConfig(precision="float16"))
        for precision in ("float32", "bfloat16"):
            assert scales_loss(model, qf.DistillConfig(precision=precision)) == (dtype == torch.float16)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_autocast_around_a_run_changes_nothing(precision: str, enabled: bool) -> None:
    """On or off, it keeps casts of weights until it ends: every step would see the first one's."""
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 8)).eval()
    batches = list(torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(1)))
    low = copy.deepcopy(teacher)
    qf.quantize(low, batches, qf.QuantConfig(3, 3, rank=4))
    settings = qf.DistillConfig(SETTINGS.trainer, rank=2, precision=precision, merge_rank=3)
    alone, within = copy.deepcopy(low), copy.deepcopy(low)
    reports = [qf.distill(alone, teacher, batches, settings, val_batches=batches[:1])]
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        reports.append(qf.distill(within, teacher, batches, settings, val_batches=batches[:1]))
    assert reports[0] == reports[1]
