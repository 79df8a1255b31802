"""What a low-bit layer's outputs are its original's times, and what that does to what counts of its branch."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

import quantface_core as qf
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.batches import call
from quantface_core.train import distill as distill_module
from quantface_core.train.distill import branch_metrics
from quantface_core.train.fold_factors import fold_factors

LAYERS = {
    "linear": (lambda: nn.Linear(32, 24), (4, 90, 32)),
    "convolution": (lambda: nn.Conv2d(32, 24, 3, padding=1), (4, 32, 9, 9)),
    "pointwise": (lambda: nn.Conv2d(32, 24, 1), (4, 32, 9, 9)),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", LAYERS)
def test_they_are_ones_until_a_balance_is_taken_over(kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    make, shape = LAYERS[kind]
    layer = make()
    model = nn.Sequential(copy.deepcopy(layer)).eval()
    # Rotated: of a layer that balances nothing itself, factors are known up to one of all.
    qf.quantize(model, [torch.randn(shape)], qf.QuantConfig(4, 8, rank=4, search_rotation=False))
    low = quant_layers(model)["0"]
    assert torch.equal(fold_factors(low, layer), torch.ones(24))
    factors = torch.linspace(0.5, 2, 12) * torch.tensor([1.0, -1.0]).repeat(6)
    low.multiply_outputs(slice(12, 24), factors)
    torch.testing.assert_close(fold_factors(low, layer)[12:], factors, rtol=0.12, atol=0)
    assert torch.equal(fold_factors(low, layer)[:12], torch.ones(12))


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module, list[torch.Tensor]]:
    """A transformer block, itself in low bits, and what it reads."""
    torch.manual_seed(0)
    teacher = BasicTransformerBlock(64, 4, 16, activation_fn="geglu").eval()
    batches = list(torch.randn(4, 2, 24, 64) * torch.linspace(0.2, 3, 64))
    low = copy.deepcopy(teacher)
    qf.quantize(low, batches[:1], qf.QuantConfig(8, 8, rank=8))
    return teacher, low, batches


@pytest.mark.parametrize("name", ["attn1.to_v", "attn1.to_out.0", "ff.net.0.proj"])
def test_they_are_what_outputs_show(name: str, pair: tuple[nn.Module, nn.Module, list[torch.Tensor]]) -> None:
    """Where what makes a layer's input has taken over its balance, too."""
    teacher, low, batches = pair
    made: list[torch.Tensor] = []
    for model in (teacher, low):
        handle = model.get_submodule(name).register_forward_hook(lambda _, __, y: made.append(y.flatten(0, 1)))
        with torch.no_grad():
            model(batches[0])
        handle.remove()
    exact, got = made
    shown = (got * exact).sum(0) / exact.square().sum(0)
    ratio = fold_factors(quant_layers(low)[name], teacher.get_submodule(name)) / shown
    torch.testing.assert_close(ratio / ratio.median(), torch.ones_like(ratio), rtol=0, atol=0.15)
    assert (shown.std() > 0.3) == (name != "attn1.to_out.0")


def test_what_counts_is_in_the_models_own_outputs(
    pair: tuple[nn.Module, nn.Module, list[torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, low, batches = pair
    settings = qf.DistillConfig(merge_rank=4)
    roots = branch_metrics(low, teacher, batches, call, settings)
    factors = {name: fold_factors(layer, teacher.get_submodule(name)) for name, layer in quant_layers(low).items()}
    monkeypatch.setattr(distill_module, "fold_factors", lambda layer, _: torch.ones(layer.shape[0]))
    for name, root in branch_metrics(low, teacher, batches, call, settings).items():
        torch.testing.assert_close(roots[name] * factors[name][:, None], root)
    assert any((f != 1).any() for f in factors.values())
    assert branch_metrics(low, teacher, batches, call, qf.DistillConfig()) == {}
