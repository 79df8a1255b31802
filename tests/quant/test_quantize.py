"""Quantizing models of any make: what is chosen, what is passed over, what is refused."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

import quantface_core as qf
from quantface_core.errors import ConfigError, UsageError
from quantface_core.nn.cancel_hooks import cancel_hooks
from quantface_core.nn.swap import quant_layers, quantizable
from quantface_core.quant.observe import calibrate
from quantface_core.quant.quantize import plan_formats, quantize_layers

CONFIG = qf.QuantConfig(rank=0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(16 * 36, 8)]
    return nn.Sequential(*layers).eval()


@pytest.fixture
def images() -> list[torch.Tensor]:
    return list(torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


def chosen(**given: list[str]) -> set[str]:
    return set(plan_formats(network(), CONFIG, **given))


def test_patterns_choose_layers_and_what_they_are_in() -> None:
    assert chosen() == {"0", "2", "4"}
    assert chosen(exclude=["0"]) == {"2", "4"}
    assert chosen(include=["[02]"], exclude=["0"]) == {"2"}
    both = nn.ModuleDict({"encoder": network(), "decoder": network()})
    assert set(plan_formats(both, CONFIG, include=["decoder"])) == {"decoder.0", "decoder.2", "decoder.4"}


@pytest.mark.parametrize("given", [{"include": ["5"]}, {"exclude": ["conv*"]}, {"include": "02"}])
def test_patterns_that_fit_nothing_are_refused(given: dict) -> None:
    with pytest.raises(ConfigError, match="pattern"):
        plan_formats(network(), CONFIG, **given)


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


def test_layers_that_no_batch_reaches_and_those_of_their_own_kind_stay(images: list[torch.Tensor]) -> None:
    class Doubled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.unused, self.doubled = network(), nn.Linear(8, 8), Doubled(8, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)  # reads its output layer's weight itself
            self.grouped = nn.Conv2d(16, 16, 3, groups=16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.doubled(self.body(x))[:, None]
            return self.attention(y, y, y)[0]

    model = Net().eval()
    exact = model(images[0])
    with pytest.warns(
        UserWarning, match=r"\(4\): doubled is a Doubled, grouped is a grouped conv.* and 1 more$"
    ) as told:
        reports = qf.quantize(model, images, qf.QuantConfig(8, 8, rank=0))
    assert [warning.filename for warning in told] == [__file__]
    assert {r.name for r in reports} == {"body.0", "body.2", "body.4"} == set(quant_layers(model))
    assert torch.allclose(model(images[0]), exact, atol=0.1)


KINDS = {
    "a dilated convolution": nn.Conv2d(3, 3, 3, padding=2, dilation=2),
    "a grouped convolution": nn.Conv2d(3, 3, 3, padding=1, groups=3),
    "a convolution of padding 'same'": nn.Conv2d(3, 3, 3, padding="same"),
    "a convolution of padding 'reflect'": nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
    "a ConvTranspose2d": nn.ConvTranspose2d(3, 3, 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_that_stay_are_named_unless_excluded(kind: str, images: list[torch.Tensor]) -> None:
    def build() -> nn.Module:
        return nn.Sequential(OrderedDict(odd=copy.deepcopy(KINDS[kind]), plain=network())).eval()

    with pytest.warns(UserWarning, match=f"odd is {kind}"):
        qf.quantize(build(), images, CONFIG)
    with pytest.raises(ConfigError, match=f"odd is {kind}, which stays in full precision"):
        qf.quantize(build(), images, CONFIG, include=["odd"])
    for given in ({"exclude": ["odd"]}, {"include": ["plain"]}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            qf.quantize(build(), images, CONFIG, **given)


def _hooked(layer: nn.Module) -> None:
    layer.register_forward_hook(lambda _, __, output: 10 * output)


def _hooked_before(layer: nn.Module) -> None:
    layer.register_forward_pre_hook(lambda _, given: (3 * given[0],))


def _replaced(layer: nn.Module) -> None:
    forward = layer.forward
    layer.forward = lambda x: 10 * forward(x)  # type: ignore[method-assign]


@pytest.mark.parametrize("patch", [_hooked, _hooked_before, _replaced])
def test_patched_layers_stay_and_are_named(patch: Callable[[nn.Module], None], images: list[torch.Tensor]) -> None:
    """Their hooks would be lost with them: the output was a tenth."""
    model = network()
    patch(model[2])
    with torch.no_grad():
        exact = model(images[0])
        with pytest.warns(UserWarning, match="2 is a layer with"):
            assert [report.name for report in qf.quantize(model, images, qf.QuantConfig(8, 8, rank=0))] == ["0", "4"]
        assert float((model(images[0]) - exact).norm() / exact.norm()) < 0.1


def test_hooks_that_only_look_or_make_the_weight_keep_no_layer() -> None:
    model = network()
    before = list(quantizable(model))
    torch.nn.utils.spectral_norm(model[4])
    with cancel_hooks(lambda: None, model):
        assert list(quantizable(model)) == before


def test_a_layer_held_twice_is_replaced_twice(images: list[torch.Tensor]) -> None:
    model = network()
    model.append(nn.Linear(8, 8)).append(model[-1])
    qf.quantize(model, images, CONFIG)
    assert model[5] is model[6]
    assert not quantizable(model)


def test_what_stays_in_floats_takes_gradients_where_asked(images: list[torch.Tensor]) -> None:
    model = network()
    qf.quantize(model, images, CONFIG, exclude=["4"])
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model[4].requires_grad_(True)
    model(images[0]).sum().backward()
    assert model[4].weight.grad is not None


@pytest.mark.parametrize("model", [nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))])
def test_nothing_to_quantize_is_said(model: nn.Module) -> None:
    why = r" \(0 is a grouped convolution\)" if isinstance(model, nn.Sequential) else "$"
    with pytest.raises(UsageError, match=f"no linear or convolution inside that can be quantized{why}"):
        qf.quantize(model, [torch.zeros(1, 4, 4, 4)])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_by_layer(value: float, images: list[torch.Tensor]) -> None:
    model = network()
    with pytest.raises(UsageError, match="0 read NaN"):
        qf.quantize(model, [images[0], torch.full_like(images[0], value)])
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


@pytest.fixture
def uneven() -> nn.Module:
    """A network of which one branch hardly counts."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loud, self.quiet = network(), network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.loud(x) + 0.01 * self.quiet(x)

    return Branches().eval()


def test_allocated_bits_go_where_they_count(uneven: nn.Module, images: list[torch.Tensor]) -> None:
    before, modules = copy.deepcopy(uneven.state_dict()), list(uneven.modules())
    budget, plain = qf.Budget(weight_bits=5, activation_bits=5), replace(CONFIG, weight_bits=5, activation_bits=5)
    plan = qf.allocate(uneven, images, budget, CONFIG)
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


def test_a_plan_for_another_model_is_refused(uneven: nn.Module, images: list[torch.Tensor]) -> None:
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


class Attending(nn.Module):
    """An attention whose class says nothing of a context, and that is given one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attn = Attention(query_dim=64, heads=2, dim_head=32)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return self.attn(x, encoder_hidden_states=context)  # type: ignore[no-any-return]


@pytest.mark.parametrize("has_context", [True, False])
def test_keys_and_values_are_searched_on_what_they_read(has_context: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(2, 64, 64, generator=generator).relu(), torch.randn(2, 64, 64, generator=generator)
    batch, model = (x, context) if has_context else (x,), Attending().eval()
    exact = {name: getattr(model.attn, name)(batch[-1]).detach() for name in ("to_k", "to_v")}
    reports = {report.name: report for report in qf.quantize(model, [batch], qf.QuantConfig(rank=0))}
    for name, wanted in exact.items():
        error = (getattr(model.attn, name)(batch[-1]) - wanted).square().mean() / wanted.square().mean()
        assert float(error) == pytest.approx(reports[f"attn.{name}"].error_after, rel=0.05)
        assert float(error) < 0.03
    points = [reports[f"attn.{name}"].format.zero_point for name in ("to_q", "to_k", "to_v")]
    assert points[1] == points[2]
    assert (points[0] == points[1]) != has_context  # one input is rounded once, for all


def test_a_layer_that_runs_twice_a_batch_is_ready_for_its_largest_input() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) + self.layer(x / 100)  # type: ignore[no-any-return]

    x = torch.ones(4, 8)
    largest = calibrate(Twice().eval(), [x] * 30)["layer"].largest
    torch.testing.assert_close(largest, torch.ones(8))
