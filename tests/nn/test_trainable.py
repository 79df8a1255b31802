"""Layers in training compute what their integers do, and become them again."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

import quantface_core as qf
from quantface_core.kernels import reference
from quantface_core.nn.swap import prepare, quant_layers
from quantface_core.nn.trainable import to_integers, to_trainable, trainable_parameters
from quantface_core.types import BRANCH_BITS

LAYERS = {
    "linear": nn.Linear(32, 24),
    "convolution": nn.Conv2d(32, 24, 3, padding=1),
    "oblong": nn.Conv2d(32, 24, (3, 2), stride=(2, 1), padding=(0, 1)),
    "pointwise": nn.Conv2d(32, 24, 1),
}


@pytest.mark.parametrize(("branch_bits", "tolerance"), [(16, 5e-3), (8, 3e-2)])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_in_training_computes_what_its_integers_do(kind: str, branch_bits: int, tolerance: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 9, 32) if kind == "linear" else torch.randn(2, 32, 6, 7)
    model = nn.Sequential(copy.deepcopy(LAYERS[kind])).eval()
    qf.quantize(model, [x], qf.QuantConfig(rank=4, branch_bits=branch_bits))
    prepare(model, reference)
    expected = model(x)
    to_trainable(model, rank=4)
    torch.testing.assert_close(model(x), expected, atol=1e-3, rtol=1e-3)
    down, up = trainable_parameters(model, distillation_only=True).values()
    with torch.no_grad():
        up.add_(0.1)
    trained = model(x).detach()
    assert not torch.allclose(trained, expected, atol=1e-2)
    to_integers(model)
    prepare(model, reference)
    assert quant_layers(model)["0"].format.rank == len(down) + 4
    torch.testing.assert_close(model(x), trained, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("branch_bits", BRANCH_BITS)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_that_learns_nothing_stays_the_same_bit_for_bit(kind: str, branch_bits: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 9, 32) if kind == "linear" else torch.randn(2, 32, 6, 7)
    model = nn.Sequential(copy.deepcopy(LAYERS[kind])).eval()
    qf.quantize(model, [x], qf.QuantConfig(rank=4, branch_bits=branch_bits))
    before = copy.deepcopy(model.state_dict())
    to_trainable(model, rank=4)
    to_integers(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_branches_merge_by_what_counts() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 24)).eval()
    qf.quantize(model, [torch.randn(2, 9, 32)], qf.QuantConfig(rank=4))
    to_trainable(model, rank=4)
    with torch.no_grad():
        for half in trainable_parameters(model).values():
            half.copy_(torch.randn(half.shape))
    counts = torch.cat([torch.full((4,), 1.0), torch.full((20,), 1e-3)])  # four outputs, and a branch of four
    merged = {}
    for name, metrics in {"all alike": None, "by metric": {"0": counts, "elsewhere": counts}}.items():
        low = copy.deepcopy(model)
        to_integers(low, 4, metrics)
        merged[name] = low[0].weight[:4]
    to_integers(model)
    exact = model[0].weight[:4]
    assert (merged["by metric"] - exact).norm() < (merged["all alike"] - exact).norm() / 20


@pytest.mark.parametrize(("limit", "rank"), [(0, 6), (9, 6), (5, 5)])
def test_branches_of_more_ranks_than_the_weight_has_get_its_rank(limit: int, rank: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 6)).eval()
    qf.quantize(model, [torch.randn(2, 9, 16)], qf.QuantConfig(rank=3, rounding="nearest", branch="svd"))
    to_trainable(model, rank=5)
    with torch.no_grad():
        for half in trainable_parameters(model).values():
            half.copy_(torch.randn(half.shape))
    exact = model[0].weight.clone()
    to_integers(model, limit)
    assert model[0].format.rank == rank
    assert (torch.linalg.matrix_norm(model[0].weight - exact) < 0.03 * torch.linalg.matrix_norm(exact)) == (rank == 6)


def test_a_small_trained_branch_outlives_its_rounding_beside_a_large_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 24)).eval()
    qf.quantize(model, [torch.randn(2, 9, 32)], qf.QuantConfig(rank=4))
    before = model[0].weight
    to_trainable(model, rank=4)
    down, up = trainable_parameters(model, distillation_only=True).values()
    with torch.no_grad():
        down.copy_(torch.randn(down.shape))
        up.copy_(torch.randn(up.shape) * 1e-3)
    transform, learned = model[0].transform, (up.flatten(1) @ down).detach()
    to_integers(model)
    expected = transform.fold(learned)
    assert expected.norm() < before.norm() / 50
    assert (model[0].weight - before - expected).norm() < 0.25 * expected.norm()


@pytest.mark.parametrize("kind", LAYERS)
def test_its_weight_is_the_effective_one_adapters_included(kind: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 9, 32) if kind == "linear" else torch.randn(2, 32, 6, 7)
    model = nn.Sequential(copy.deepcopy(LAYERS[kind])).eval()
    qf.quantize(model, [x], qf.QuantConfig(rank=4, branch_bits=16))
    before, bias = model[0].weight, model[0].bias
    to_trainable(model, rank=4)
    torch.testing.assert_close(model[0].weight, before)
    assert model[0].bias is bias
    with torch.no_grad():
        for half in trainable_parameters(model).values():
            half.copy_(torch.randn(half.shape))
    trained = model[0].weight
    to_integers(model)
    torch.testing.assert_close(trained, model[0].weight, atol=0.05, rtol=0.01)  # its branch is in float16


class Nested(nn.Module):
    """Two layers, the name of one the end of the other's."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(16, 16), nn.ModuleDict({"fc": nn.Linear(16, 16)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head["fc"](torch.relu(self.fc(x)))


def test_adapters_are_put_on_layers_and_not_on_what_ends_in_their_names() -> None:
    torch.manual_seed(0)
    model, x = Nested().eval(), torch.randn(9, 16)
    qf.quantize(model, [x], qf.QuantConfig(rank=4), include=["fc"])
    qf.quantize(model, [x], qf.QuantConfig(rank=0), include=["head.fc"])
    to_trainable(model, rank=4, learning=["fc"])
    learned = trainable_parameters(model)
    assert {name.split(".product")[0] for name in learned} == {"fc"}
    with torch.no_grad():
        for parameter in learned.values():
            parameter.add_(0.1)
    to_integers(model)
    ranks = {name: layer.format.rank for name, layer in quant_layers(model).items()}
    assert ranks == {"fc": 8, "head.fc": 0}


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("learning", [None, ["0"]])
def test_only_what_was_asked_for_learns(rank: int, learning: list[str] | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 16)).eval()
    qf.quantize(model, [torch.randn(9, 16)], qf.QuantConfig(rank=rank))
    model[1].requires_grad_(True)
    to_trainable(model, rank=4, learn_clips=True, learning=learning)
    learners = {name.split(".")[0] for name in trainable_parameters(model)}
    assert learners == set(learning or ["0", "2"])
    assert any(name.endswith("clip") for name in trainable_parameters(model))


def test_layers_outside_of_what_is_trained_stay_in_integers() -> None:
    torch.manual_seed(0)
    model = Nested().eval()
    qf.quantize(model, [torch.randn(9, 16)], qf.QuantConfig(rank=4))
    to_trainable(model, rank=4, within="head.")
    assert list(quant_layers(model)) == ["fc"]


def test_a_models_own_adapters_stay() -> None:
    torch.manual_seed(0)
    model, x = Nested().eval(), torch.randn(9, 16)
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["fc"], init_lora_weights=False), model, "mine")
    own = {name: tensor.clone() for name, tensor in model.state_dict().items() if ".mine." in name}
    with pytest.warns(UserWarning, match="is a PEFT adapter"):
        qf.quantize(model, [x], qf.QuantConfig(rank=4))
    prepare(model, reference)
    expected = model(x)
    to_trainable(model, rank=4)
    torch.testing.assert_close(model(x), expected, atol=1e-2, rtol=1e-2)
    assert not any(".mine." in name for name in trainable_parameters(model))
    to_integers(model)
    assert list(model.peft_config) == ["mine"]
    assert len(own) == 4
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in own.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_model_in_half_precision_computes_in_it_outside_of_autocast(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 9, 32) if kind == "linear" else torch.randn(2, 32, 6, 7)).to(dtype)
    model = nn.Sequential(copy.deepcopy(LAYERS[kind])).to(dtype).eval()
    qf.quantize(model, [x], qf.QuantConfig(rank=4))
    prepare(model, reference)
    expected = model(x)
    to_trainable(model, rank=4)
    made = model(x)
    assert made.dtype == dtype
    assert (made.float() - expected.float()).norm() < 0.05 * expected.float().norm()


def test_a_device_without_autocast_is_not_asked_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch 2.4 raises for Apple's GPUs."""

    def unknown(*_: object) -> bool:
        raise RuntimeError("unknown device type for autocast")

    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0))
    model = in_training(x)
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda _: False)
    monkeypatch.setattr(torch, "is_autocast_enabled", unknown)
    assert model[0](x.bfloat16()).dtype == torch.bfloat16


def in_training(x: torch.Tensor, learn_clips: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(copy.deepcopy(LAYERS["linear"])).eval()
    qf.quantize(model, [x], qf.QuantConfig(rank=2))
    to_trainable(model, 2, learn_clips=learn_clips)
    return model


def test_a_deep_copy_rounds_by_its_own_clip() -> None:
    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0))
    model = in_training(x, learn_clips=True)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied[0].clip.fill_(0.1)  # type: ignore[operator]
    assert not torch.equal(copied(x), model(x))
    copied(x).sum().backward()
    assert copied[0].clip.grad is not None
    assert model[0].clip.grad is None


@pytest.mark.parametrize(("learned", "stored"), [(1.3, 1.0), (0.7, 0.7), (0.01, 0.05)])
def test_a_clip_that_went_astray_is_stored_within_bounds(learned: float, stored: float) -> None:
    model = in_training(torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0)), learn_clips=True)
    with torch.no_grad():
        model[0].clip.fill_(learned)  # type: ignore[operator]
    to_integers(model)
    assert quant_layers(model)["0"].format.clip == pytest.approx(stored)


@pytest.mark.parametrize("astray", [1.3, 0.01])
def test_a_clip_that_went_astray_goes_on_learning(astray: float) -> None:
    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0))
    model = in_training(x, learn_clips=True)
    with torch.no_grad():
        model[0].clip.fill_(astray)  # type: ignore[operator]
    model(x).square().sum().backward()
    assert model[0].clip.grad


def test_a_rank_that_learned_nothing_divides_by_nothing() -> None:
    model = in_training(torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0)))
    _, up = trainable_parameters(model, distillation_only=True).values()
    with torch.no_grad():
        up[:, 0] = 0.1  # and the other column stays zero
    trained = model[0].weight
    to_integers(model)
    torch.testing.assert_close(model[0].weight, trained, atol=0.02, rtol=0.02)


def test_a_layer_that_ran_in_inference_mode_is_trained_all_the_same() -> None:
    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0))
    model = in_training(x)
    with torch.inference_mode():
        model(x)
    x.requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None
