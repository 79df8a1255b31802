"""Bits allocated to any model: one measurement, any budget."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import quantface_core as qf
from quantface_core.nn.swap import quant_layers
from tests.quant import networks

CONFIG = qf.QuantConfig(rank=2)
BUDGETS = [qf.Budget(weight_bits=4.5, activation_bits=5), qf.Budget(megabytes=0.0017)]


def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [layer for _ in range(3) for layer in (nn.Linear(16, 16), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(16, 8)).eval()


def batches() -> list[torch.Tensor]:
    return [torch.randn(32, 16, generator=torch.Generator().manual_seed(1))]


def test_one_kept_measurement_answers_every_budget_as_allocate_does(tmp_path: Path) -> None:
    file = f"{tmp_path}/sensitivity.json"
    qf.save_sensitivity(qf.measure_sensitivity(model(), batches(), CONFIG), file)
    kept = qf.load_sensitivity(file)
    plans = [qf.solve_plan(kept, budget) for budget in BUDGETS]
    assert plans[0] != plans[1]
    assert plans == [qf.allocate(model(), batches(), budget, CONFIG) for budget in BUDGETS]
    spent = qf.summarize_plan(plans[0], kept)
    assert spent["weight_bits"] <= 4.5
    assert spent["activation_bits"] <= 5
    assert f"{spent['weight_bits']:.2f} weight bits" in qf.describe_plan(plans[0], kept)
    assert qf.summarize_plan(plans[1], kept)["megabytes"] <= 0.0017
    qf.save_plan(plans[0], f"{tmp_path}/plan.json")
    assert qf.load_plan(f"{tmp_path}/plan.json") == plans[0]


def test_a_budget_that_is_none_is_refused_before_the_model_runs() -> None:
    def forward(_: nn.Module, __: object) -> object:
        pytest.fail("the model ran")

    with pytest.raises(qf.UsageError, match="at least one budget"):
        qf.allocate(model(), batches(), qf.Budget(), CONFIG, forward=forward)


def test_a_config_that_is_none_is_refused_before_the_model_runs() -> None:
    def forward(_: nn.Module, __: object) -> object:
        pytest.fail("the model ran")

    for config, why in (({"rank": 4}, "a config is a QuantConfig"), (qf.QuantConfig(rank=-1), "rank and seed")):
        with pytest.raises(qf.ConfigError, match=why):
            qf.measure_sensitivity(model(), batches(), config, forward=forward)  # type: ignore[arg-type]


def test_a_layer_without_which_nothing_is_finite_is_named() -> None:
    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.inner(x)
            return (y - floor).sqrt()

    floor = 0.0
    with torch.no_grad():
        floor = float(model()(batches()[0]).min())
    with pytest.raises(qf.UsageError, match="not finite with inner"):
        qf.measure_sensitivity(Rooted(), batches(), CONFIG)


@pytest.fixture
def uneven() -> nn.Module:
    """A network of which one branch hardly counts."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loud, self.quiet = networks.network(), networks.network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.loud(x) + 0.01 * self.quiet(x)

    return Branches().eval()


def test_allocated_bits_go_where_they_count(uneven: nn.Module, images: list[torch.Tensor]) -> None:
    before, modules = copy.deepcopy(uneven.state_dict()), list(uneven.modules())
    budget = qf.Budget(weight_bits=5, activation_bits=5)
    plain = replace(networks.CONFIG, weight_bits=5, activation_bits=5)
    plan = qf.allocate(uneven, images, budget, networks.CONFIG)
    assert list(uneven.modules()) == modules
    assert all(torch.equal(t, before[k]) for k, t in uneven.state_dict().items())
    for name in ("0", "2", "4"):
        loud, quiet = plan.layers[f"loud.{name}"], plan.layers[f"quiet.{name}"]
        assert loud.weight > quiet.weight
        assert loud.activation >= quiet.activation  # the last layer's cost next to nothing

    def error(plan: qf.BitPlan | None = None) -> float:
        model = copy.deepcopy(uneven)
        qf.quantize(model, images, plain, plan=plan)
        made = {n: (layer.format.weight_bits, layer.format.activation_bits) for n, layer in quant_layers(model).items()}
        assert made == (plan.layers if plan else dict.fromkeys(made, (5, 5)))
        with torch.no_grad():
            return sum(float((model(x) - uneven(x)).square().mean()) for x in images)

    assert error(plan) < 0.5 * error()
