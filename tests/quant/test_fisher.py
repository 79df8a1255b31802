"""What the output depends on: second moments of gradients, and the branch that follows from them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import quantface_core as qf
from quantface_core.errors import UsageError
from quantface_core.nn.swap import quantizable
from quantface_core.quant import fisher as fisher_module
from quantface_core.quant.batches import call
from quantface_core.quant.fisher import metric_root, output_fisher
from quantface_core.quant.observe import calibrate
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.quantize import calibrate_restorer
from quantface_core.types import BRANCHES, RestorerQuantConfig


def network(keep: int = 4) -> nn.Sequential:
    """Of the first layer's outputs the last reads a few directions alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(64, keep) @ torch.randn(keep, 64))
    return model.eval()


def test_it_is_the_gauss_newton_matrix_of_a_linear_network() -> None:
    model = network()
    rows = torch.randn(4, 500, 64)
    got = output_fisher(model, [rows], quantizable(model), call)
    weight = model[1].weight.detach()
    want = weight.t() @ weight
    assert torch.nn.functional.cosine_similarity(got["0"].flatten(), want.flatten(), dim=0) > 0.99
    assert all(p.requires_grad for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_a_convolution_counts_its_places() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)).eval()
    got = output_fisher(model, torch.randn(4, 3, 40, 40).split(1), quantizable(model), call)
    weight = model[1].weight.detach().flatten(1)
    want = weight.t() @ weight
    assert torch.nn.functional.cosine_similarity(got["0"].flatten(), want.flatten(), dim=0) > 0.99


def test_gradients_of_all_batches_add_up() -> None:
    """Each batch reaches half of the ReLU's units: together they reach all."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(8))
        model[0].bias.zero_()
    rows = torch.tensor([1.0] * 4 + [-1.0] * 4).expand(2, 30, 8)
    fisher = output_fisher(model, [rows, -rows], quantizable(model), call)["0"]
    assert fisher.diagonal().min() > 0


def test_what_is_changed_in_place_after_a_layer_is_no_hindrance() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 8)).eval()
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([-100.0] * 4 + [100.0] * 4))
    got = output_fisher(model, [torch.randn(2, 30, 8)], quantizable(model), call)["0"]
    assert got[:4].abs().max() == 0  # never beyond the ReLU
    assert got[4:, 4:].diagonal().min() > 0


def test_the_branch_keeps_what_the_output_depends_on() -> None:
    model, rows = network(), torch.randn(4, 200, 64)
    errors = {}
    for branch in qf.types.BRANCHES:
        low = copy.deepcopy(model)
        qf.quantize(low, [rows], qf.QuantConfig(rank=8, branch=branch), include=["0"])
        with torch.no_grad():
            errors[branch] = float((low(rows) - model(rows)).square().mean())
    assert errors["fisher"] < errors["svd"] / 10  # four directions count, and eight are kept, of what rounding did too


def test_it_works_in_inference_mode_and_repeats() -> None:
    with torch.inference_mode():
        model, rows = network(), torch.randn(4, 20, 64)
        first = calibrate(model, [rows], fisher_batches=1)["0"].fisher
        second = calibrate(model, [rows], fisher_batches=1)["0"].fisher
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)


def test_layers_without_a_gradient_have_none() -> None:
    class Chosen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score, self.table, self.out = nn.Linear(8, 8), nn.Embedding(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.table(self.score(x).argmax(-1)))

    statistics = calibrate(Chosen().eval(), [torch.randn(2, 5, 8)], fisher_batches=1)
    assert statistics["score"].fisher is None
    assert statistics["out"].fisher is not None


def test_a_model_that_cannot_be_differentiated_says_what_to_do() -> None:
    class Opaque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x).exp()
            z = y * 2
            y.zero_()  # what exp's gradient would need
            return z

    with pytest.raises(UsageError, match='branch="svd"'):
        qf.quantize(Opaque().eval(), [torch.randn(2, 5, 64)])
    qf.quantize(Opaque().eval(), [torch.randn(2, 5, 64)], qf.QuantConfig(branch="svd"))


@pytest.mark.parametrize("hides", ["tensors", "gradients"])
def test_no_fisher_information_at_all_is_said(hides: str) -> None:
    class Hidden(str):
        """An output of a kind that shows no tensor."""

    def forward(model: nn.Module, rows: torch.Tensor) -> object:
        with torch.set_grad_enabled(hides != "gradients"):
            made = model(rows)
        return Hidden() if hides == "tensors" else made

    for config in (qf.QuantConfig(rank=8, branch="svd"), qf.QuantConfig(rank=0)):
        qf.quantize(network(), [torch.randn(2, 50, 64)], config, forward=forward)  # needs none, and says nothing
    with pytest.warns(UserWarning, match=r"no finite gradient .* give a `forward` that returns"):
        qf.quantize(network(), [torch.randn(2, 50, 64)], qf.QuantConfig(rank=8), forward=forward)


def test_wide_layers_keep_the_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = network(), torch.randn(2, 100, 64)
    whole = output_fisher(model, [rows], quantizable(model), call)
    monkeypatch.setattr(fisher_module, "LARGEST", 32)
    diagonal = output_fisher(model, [rows], quantizable(model), call)
    torch.testing.assert_close(diagonal["0"], whole["0"].diagonal().float(), rtol=1e-3, atol=1e-3)
    low = copy.deepcopy(model)
    qf.quantize(low, [rows], qf.QuantConfig(rank=8), include=["0"])
    error = (low(rows) - model(rows)).norm() / model(rows).norm()
    assert 0 < error < 0.3


def test_the_root_is_the_metrics() -> None:
    torch.manual_seed(0)
    factor = torch.randn(6, 6)
    root = metric_root(factor @ factor.t(), damping=1e-9)
    want = factor @ factor.t() / (factor @ factor.t()).diagonal().mean()
    torch.testing.assert_close(root @ root.t(), want)
    torch.testing.assert_close(metric_root(torch.tensor([1.0, 3.0]), 0.0), torch.tensor([0.5, 1.5]).sqrt())


def test_what_is_not_finite_is_left_out() -> None:
    model = network()

    @contextmanager
    def infinite() -> Iterator[None]:
        handle = model[1].register_forward_hook(lambda _, __, y: y * torch.tensor(3e38) * 10)
        try:
            yield
        finally:
            handle.remove()

    with infinite(), pytest.warns(UserWarning, match="no finite gradient"):
        assert output_fisher(model, [torch.randn(1, 5, 64)], quantizable(model), call) == {}


def test_a_model_in_training_stays_as_it_is() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Conv2d(8, 2, 1)).train()
    before, images = copy.deepcopy(model.state_dict()), torch.randn(2, 3, 9, 9).split(1)
    first = output_fisher(model, images, quantizable(model), call)
    assert torch.equal(first["0"], output_fisher(model, images, quantizable(model), call)["0"])
    assert all(module.training for module in model.modules())
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_statistics_are_the_same_where_gradients_are_taken(tiny: OneStepRestorer) -> None:
    """Layers that the backward pass computes again are not counted twice."""
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    with_gradients, without = (
        calibrate_restorer(tiny, images, config=RestorerQuantConfig(branch=branch)) for branch in BRANCHES
    )
    assert with_gradients.keys() == without.keys()
    assert any(one.fisher is not None for one in with_gradients.values())
    for name, one in without.items():
        torch.testing.assert_close(with_gradients[name].largest, one.largest)


@pytest.mark.parametrize("times", [1.0, 0.0])
def test_an_output_of_one_number_takes_nothing_over(times: float) -> None:
    class Score(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            made = self.body(x)
            return made, made[..., 0].square().mean() * times

    body, rows = network(), torch.randn(4, 50, 64)
    without = output_fisher(body, [rows], quantizable(body), call)["0"].float()
    with_score = output_fisher(Score(body), [rows], quantizable(body), call)["0"].float()
    assert torch.nn.functional.cosine_similarity(with_score.flatten(), without.flatten(), dim=0) > 0.9


def test_a_layer_of_more_outputs_than_float16_counts_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fisher_module, "LARGEST", 2)

    class OneOf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide = nn.Linear(4, 66_000)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.wide(x)[..., 7]
            return y

    torch.manual_seed(0)
    model = OneOf().eval()
    diagonal = output_fisher(model, [torch.randn(3, 4)], quantizable(model), call)["wide"]
    assert torch.isfinite(metric_root(diagonal)).all()
    assert float(diagonal[7]) == pytest.approx(66_000)
