"""Which layers are quantized: those chosen, that are reached, and that compute nothing but their product."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import nn

import quantface_core as qf
from quantface_core.errors import ConfigError, UsageError
from quantface_core.nn.cancel_hooks import cancel_hooks
from quantface_core.nn.swap import quant_layers, quantizable
from quantface_core.quant.quantize import plan_formats
from tests.quant.networks import CONFIG, network


def chosen(**given: list[str]) -> set[str]:
    return set(plan_formats(network(), CONFIG, **given))


def test_patterns_choose_layers_and_what_they_are_in() -> None:
    assert chosen() == {"0", "2", "4"}
    assert chosen(exclude=["0"]) == {"2", "4"}
    assert chosen(include=["[02]"], exclude=["0"]) == {"2"}
    both = nn.ModuleDict({"encoder": network(), "decoder": network()})
    assert set(plan_formats(both, CONFIG, include=["decoder"])) == {"decoder.0", "decoder.2", "decoder.4"}


@pytest.mark.parametrize(
    "given",
    [{"include": ["5"]}, {"exclude": ["conv*"]}, {"exclude": ["*"]}, {"include": "02"}, {"include": [nn.Linear]}],
)
def test_patterns_that_fit_nothing_are_refused(given: dict) -> None:
    with pytest.raises(ConfigError, match="pattern"):
        plan_formats(network(), CONFIG, **given)


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
    "a convolution with padding 'same'": nn.Conv2d(3, 3, 2, padding="same"),
    "a convolution with padding 'reflect'": nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
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


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    ("kind", "outputs", "dtype"),
    [("a layer of complex numbers", 8, torch.complex64), ("a layer without inputs or outputs", 0, torch.float32)],
)
def test_layers_that_no_integers_stand_for_are_named(kind: str, outputs: int, dtype: torch.dtype) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd, self.plain = nn.Linear(8, outputs, dtype=dtype), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.odd(x.to(dtype)).real, self.plain(x)

    torch.manual_seed(0)
    model = Net().eval()
    with pytest.warns(UserWarning, match=f"odd is {kind}"):
        qf.quantize(model, [torch.randn(4, 8)], CONFIG)
    assert set(quant_layers(model)) == {"plain"}


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
        with pytest.warns(UserWarning, match=r"2 is a layer with .* remove it first"):
            assert [report.name for report in qf.quantize(model, images, qf.QuantConfig(8, 8, rank=0))] == ["0", "4"]
        assert float((model(images[0]) - exact).norm() / exact.norm()) < 0.1


def test_hooks_that_only_look_or_make_the_weight_keep_no_layer() -> None:
    model = network()
    before = list(quantizable(model))
    torch.nn.utils.spectral_norm(model[4])
    with cancel_hooks(lambda: None, model):
        assert list(quantizable(model)) == before


class Experts(nn.Module):
    """A mixture's experts, in one tensor that no layer holds."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, 8, 8) / 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.mean(0)


EXPERTS = "4 is Experts, with matrices of its own"


@pytest.mark.parametrize(
    ("words", "experts", "told"),
    [
        (9, 64, ["chosen layers stay in full precision (2): 0 is an embedding, " + EXPERTS]),
        (1000, 1, ["chosen layers stay in full precision (2): 0 is an embedding, " + EXPERTS]),
        (9, 1, []),
    ],
)
def test_matrices_that_no_layer_holds_are_named_where_they_are_many(words: int, experts: int, told: list[str]) -> None:
    """As a mixture's experts are, and the largest tensor of a text encoder: its embedding."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(words, 8), nn.Linear(8, 64), nn.Linear(64, 64), nn.Linear(64, 8), Experts(experts)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        qf.quantize(model.eval(), [torch.arange(9)[:, None]], CONFIG)
    assert [str(warning.message) for warning in caught] == told


def test_a_layer_held_twice_is_replaced_twice(images: list[torch.Tensor]) -> None:
    model = network()
    model.append(nn.Linear(8, 8)).append(model[-1])
    qf.quantize(model, images, CONFIG)
    assert model[5] is model[6]
    assert not quantizable(model)


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))])
def test_nothing_to_quantize_is_said(model: nn.Module) -> None:
    why = r" \(0 is a grouped convolution\)" if isinstance(model, nn.Sequential) else "$"
    with pytest.raises(UsageError, match=f"contains no linear or convolution that can be quantized{why}"):
        qf.quantize(model, [torch.zeros(1, 4, 4, 4)])


def test_what_is_no_model_to_quantize_is_said() -> None:
    quantized = network()
    qf.quantize(quantized, [torch.zeros(1, 3, 8, 8)], CONFIG)
    refused = {"a model is an nn.Module, such as .* got a dict": {"unet": network()}, "quantized already": quantized}
    refused["a Linear by itself cannot be replaced"] = nn.Linear(8, 8)
    refused["0, 2, 4: on the meta device, without values"] = network().to("meta")
    for words, model in refused.items():
        for call in (qf.quantize, qf.measure_sensitivity):
            with pytest.raises(UsageError, match=words):
                call(model, [torch.zeros(1, 3, 8, 8)])


def test_layers_called_by_keyword_are_quantized_called_and_trained_so(images: list[torch.Tensor]) -> None:
    """As diffusers' motion modules call theirs."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.point, self.linear = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(6, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(input=self.point(input=self.conv(input=x)))  # type: ignore[no-any-return]

    original = Net().eval()
    model = copy.deepcopy(original)
    assert [report.name for report in qf.quantize(model, images)] == ["conv", "point", "linear"]
    before = model(images[0])
    qf.distill(model, original, images, qf.DistillConfig(qf.TrainerConfig(steps=1, batch_size=1)))
    assert not torch.equal(model(images[0]), before)
