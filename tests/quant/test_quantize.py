"""Quantizing models of any make: what goes in, what comes out, what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import quantface_core as qf
from quantface_core.errors import ConfigError, UsageError
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.observe import calibrate
from quantface_core.quant.quantize import plan_formats, quantize_layers
from tests.quant.networks import CONFIG, network


@pytest.mark.parametrize(
    "change", [{"weight_bits": 9}, {"activation_bits": 1}, {"rank": -1}, {"seed": -1}, {"block": 0}]
)
def test_configs_out_of_bounds_are_refused(change: dict, images: list[torch.Tensor]) -> None:
    with pytest.raises(ConfigError):
        qf.quantize(network(), images, replace(CONFIG, **change))


@pytest.mark.parametrize("field", ["weight_bits", "activation_bits", "branch_bits", "rank", "block", "seed"])
@pytest.mark.parametrize("value", [4.0, "4", True])
def test_configs_of_other_types_are_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{field} is a whole number, got {value!r}"):
        plan_formats(network(), replace(CONFIG, **{field: value}))


def test_tables_are_no_config_and_no_plan(images: list[torch.Tensor]) -> None:
    for table in ({"rank": 4}, {}):
        with pytest.raises(ConfigError, match="a config is a QuantConfig"):
            qf.quantize(network(), images, table)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="a plan is a BitPlan"):
            qf.quantize(network(), images, plan=table)  # type: ignore[arg-type]


def test_batches_are_arguments_keywords_or_what_forward_makes_of_them(images: list[torch.Tensor]) -> None:
    models = [network() for _ in range(4)]
    qf.quantize(models[0], images, CONFIG)
    qf.quantize(models[1], ((x,) for x in images), CONFIG)  # read once, kept for the searches
    qf.quantize(models[2], [{"input": x} for x in images], CONFIG)
    qf.quantize(models[3], [x.numpy() for x in images], CONFIG, forward=lambda m, x: m(torch.from_numpy(x)))
    with torch.no_grad():
        results = [model(images[0]) for model in models]
    assert all(torch.equal(result, results[0]) for result in results)


def test_what_stays_in_floats_takes_gradients_where_asked(images: list[torch.Tensor]) -> None:
    model = network()
    qf.quantize(model, images, CONFIG, exclude=["4"])
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model[4].requires_grad_(True)
    model(images[0]).sum().backward()
    assert model[4].weight.grad is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_by_layer(value: float, images: list[torch.Tensor]) -> None:
    model = network()
    with pytest.raises(UsageError, match="0 has NaN"):
        qf.quantize(model, [images[0], torch.full_like(images[0], value)])
    assert not quant_layers(model)


@pytest.mark.parametrize("tensor", ["weight", "bias"])
@pytest.mark.parametrize("call", [qf.quantize, qf.measure_sensitivity])
def test_weights_that_are_not_finite_are_refused_by_layer(tensor: str, call: Any, images: list[torch.Tensor]) -> None:
    """As a damaged download's; rounding to nearest would make integers of them."""
    model = network()
    getattr(model[2], tensor).data[0] = float("nan")
    with pytest.raises(UsageError, match=r"^2 has NaN or infinity among its weights"):
        call(model, images, qf.QuantConfig(rank=0, rounding="nearest"))
    assert not quant_layers(model)


def test_one_tensor_is_no_list_of_batches(images: list[torch.Tensor]) -> None:
    with pytest.raises(UsageError, match="split"):
        qf.quantize(network(), images[0])


def test_the_effective_weight_is_near_the_exact_one(images: list[torch.Tensor]) -> None:
    """What code that looks at `layer.weight` finds, whatever rotation, scale and branch are between."""
    exact, model = network(), network()
    qf.quantize(model, images, qf.QuantConfig(8, 8, rank=2))
    for name, layer in quant_layers(model).items():
        weight = exact.get_submodule(name).weight.detach()
        assert float((layer.weight - weight).norm() / weight.norm()) < 0.01


@pytest.mark.parametrize("change", [{"branch": "fisher"}, {"branch": "svd"}, {"rounding": "nearest"}, {"rank": 0}])
def test_a_channel_that_calibration_leaves_silent_may_fire_later(change: dict) -> None:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 3, 3),
    ]
    exact = nn.Sequential(*layers).eval()
    with torch.no_grad():  # one channel fires where red exceeds 0.9
        exact[0].weight[0].zero_()
        exact[0].weight[0, 0, 1, 1], exact[0].bias[0] = 1, -0.9
    dull, red = torch.rand(2, 3, 16, 16) * 0.85, torch.rand(2, 3, 16, 16)
    low = copy.deepcopy(exact)
    qf.quantize(low, [dull], qf.QuantConfig(**{"rank": 8} | change))
    with torch.no_grad():
        assert (low(red) - exact(red)).square().mean() < 0.1 * exact(red).var()


def test_pointwise_convolutions_get_a_scale_a_pixel() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(32, 16, 1), nn.Conv2d(16, 16, 1, stride=2), nn.Conv2d(16, 16, 1, padding=1)).eval()
    formats = plan_formats(model, CONFIG)
    assert [fmt.per_pixel for fmt in formats.values()] == [True, False, False]
    images = torch.randn(2, 32, 8, 8)
    images[:, :, 2, 3] *= 50
    statistics, errors = calibrate(model, [images]), []
    for per_pixel in (True, False):
        low = copy.deepcopy(model)
        quantize_layers(low, statistics, [images], {"0": replace(formats["0"], per_pixel=per_pixel)}, CONFIG)
        with torch.no_grad():
            errors.append(float((low[0](images) - model[0](images)).square()[:, :, 4:].mean()))
    assert errors[0] < errors[1] / 10


def test_a_plan_for_another_model_is_refused(images: list[torch.Tensor]) -> None:
    with pytest.raises(ConfigError, match="another model"):
        qf.quantize(network(), images, CONFIG, plan=qf.BitPlan("x", {"loud.0": (4, 4)}))
    for widths in ((1, 4), (4, 9), ("4", 4)):
        with pytest.raises(ConfigError, match=r"the plan gives 2 .*: widths are"):
            plan_formats(network(), CONFIG, qf.BitPlan("x", {"2": widths}))  # type: ignore[dict-item]


def test_batches_take_no_gradient(images: list[torch.Tensor]) -> None:
    made = images[1].clone().requires_grad_()
    batches = [{"input": images[0].clone().requires_grad_()}, {"input": made * 2}]
    qf.quantize(network(), batches, qf.QuantConfig(rank=2))
    assert batches[0]["input"].grad is None
    (batches[1]["input"].sum()).backward()  # its graph is the caller's still
    assert torch.equal(made.grad, torch.full_like(made, 2))


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="from torch 2.6 on")
def test_a_compiled_model_is_quantized_as_it_is_written(images: list[torch.Tensor]) -> None:
    plain, compiled = network(), torch.compile(network(), backend="eager")
    with torch.no_grad():
        compiled(images[0])
    plan = qf.allocate(compiled, images, qf.Budget(weight_bits=5), CONFIG)
    assert plan.layers == qf.allocate(plain, images, qf.Budget(weight_bits=5), CONFIG).layers
    for model in (compiled, plain):
        assert [report.name for report in qf.quantize(model, images, CONFIG, plan=plan, exclude=["0"])] == ["2", "4"]
    with torch.no_grad():
        assert torch.equal(compiled(images[0]), plain(images[0]))


def test_under_autocast_only_the_model_runs_in_half_precision() -> None:
    torch.manual_seed(0)
    x, original = torch.randn(64, 32), nn.Sequential(nn.Linear(32, 16)).eval()
    dtypes = set[torch.dtype]()

    def forward(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = model(batch)
        dtypes.add(made.dtype)
        return made

    def quantized(branch: qf.types.Branch) -> tuple[object, ...]:
        model, config = copy.deepcopy(original), qf.QuantConfig(rank=4, branch=branch)
        measured = qf.measure_sensitivity(model, [x], config, forward=forward).layers["0"].weight
        (report,) = qf.quantize(model, [x], config, forward=forward)
        return measured, report, model.state_dict()["0.packed"].tolist()

    exact = quantized("svd")
    with torch.autocast("cpu", torch.bfloat16):
        assert quantized("svd") == exact
        quantized("fisher")  # of outputs in half precision
    assert dtypes == {torch.float32, torch.bfloat16}
