"""QD-LoRA on models of any make: outputs come nearer to the teacher's, and a stopped run leaves no trace."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import quantface_core as qf
from quantface_core.errors import UsageError
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.output_error import relative_error
from quantface_core.train import distill as distill_module
from quantface_core.train.trainer import Trainer
from quantface_core.train.training import TrainerCallbacks

TRAINER = qf.TrainerConfig(
    steps=30, batch_size=2, learning_rate=3e-3, warmup=3, ema=0.8, validate_every=10, save_every=10
)
SETTINGS = qf.DistillConfig(TRAINER, rank=4, precision="float32")


class Net(nn.Module):
    """Two layers and a head that stays in floats; a mapping out, as diffusers' models give."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1), nn.SiLU(), nn.Dropout(0.5), nn.Conv2d(24, 24, 3))
        self.head = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.body(x)
        return {"maps": maps, "means": self.head(maps.mean((2, 3)))}


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def batches() -> list[torch.Tensor]:
    return list(torch.randn(10, 2, 12, 8, 8, generator=torch.Generator().manual_seed(1)))


@pytest.fixture
def low(teacher: nn.Module, batches: list[torch.Tensor]) -> nn.Module:
    model = copy.deepcopy(teacher)
    qf.quantize(model, batches[:2], qf.QuantConfig(3, 4, rank=4, rounding="nearest"), exclude=["head"])
    return model


@torch.no_grad()
def error(model: nn.Module, teacher: nn.Module, batches: list[torch.Tensor]) -> float:
    model.eval()
    return sum(float((model(x)["means"] - teacher(x)["means"]).square().mean()) for x in batches)


def test_outputs_come_nearer_and_only_branches_change(low: nn.Module, teacher: nn.Module, batches: list) -> None:
    low.head.requires_grad_(True)
    before, state = error(low, teacher, batches[8:]), copy.deepcopy(low.state_dict())
    report = qf.distill(low, teacher, batches[:8], SETTINGS, val_batches=batches[8:])
    assert error(low, teacher, batches[8:]) < 0.8 * before
    assert len(report.losses) == 30
    assert [step for step, _ in report.scores] == [0, 10, 20, 30]
    changed = {n for n, t in low.state_dict().items() if t.shape != state[n].shape or not torch.equal(t, state[n])}
    assert changed == {f"body.{i}.{half}" for i in (0, 3) for half in ("down", "down_scale", "up", "up_scale")}
    assert low.head.weight.requires_grad  # as it was


def test_validation_batches_may_be_any_iterable(low: nn.Module, teacher: nn.Module, batches: list) -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Iterator[torch.Tensor]:
            return iter(batches[8:])

    brief = replace(SETTINGS, trainer=replace(TRAINER, steps=1))
    report = qf.distill(low, teacher, batches[:2], brief, val_batches=DataLoader(Stream(), batch_size=None))
    assert [step for step, _ in report.scores] == [0, 1]
    assert not qf.distill(low, teacher, batches[:2], brief, val_batches=iter(())).scores


def test_a_run_that_diverges_late_keeps_its_best_step(low: nn.Module, teacher: nn.Module, batches: list) -> None:
    def diverge(trainer: Trainer) -> None:
        if trainer.done == 12:
            next(iter(trainer.parameters.values())).data.fill_(torch.inf)

    before, noticing = qf.measure_error(low, teacher, batches[8:]), TrainerCallbacks(on_step=diverge)
    with pytest.warns(UserWarning, match="diverged at step 13: step 10, the best one validated"):
        report = qf.distill(low, teacher, batches[:8], SETTINGS, val_batches=batches[8:], callbacks=noticing)
    assert (len(report.losses), report.diverged_at) == (12, 13)
    assert qf.measure_error(low, teacher, batches[8:]) < before


def test_patterns_choose_what_learns(low: nn.Module, teacher: nn.Module, batches: list) -> None:
    state = copy.deepcopy(low.state_dict())
    before = error(low, teacher, batches[:8])
    qf.distill(low, teacher, batches[:8], SETTINGS, include=["body.0"])
    assert error(low, teacher, batches[:8]) < before
    ranks = {name: layer.format.rank for name, layer in quant_layers(low).items()}
    assert ranks == {"body.0": 8, "body.3": 4}
    assert all(torch.equal(low.state_dict()[n], t) for n, t in state.items() if n.startswith("body.3"))


def test_the_same_seed_gives_the_same_weights(low: nn.Module, teacher: nn.Module, batches: list) -> None:
    other, short = copy.deepcopy(low), replace(SETTINGS, trainer=replace(TRAINER, steps=3))
    for model in (low, other):
        qf.distill(model, teacher, batches, short)
    assert all(torch.equal(a, b) for a, b in zip(low.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("inference", [False, True])
def test_a_stopped_run_leaves_the_very_layers(
    inference: bool, low: nn.Module, teacher: nn.Module, batches: list
) -> None:
    layers, modes = quant_layers(low), [module.training for module in low.train().modules()]

    def stop(trainer: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), torch.inference_mode(inference):
        qf.distill(
            low, teacher, [batch.clone() for batch in batches], SETTINGS, callbacks=TrainerCallbacks(on_step=stop)
        )
    assert quant_layers(low) == layers
    assert [module.training for module in low.modules()] == modes


def test_what_cannot_be_distilled_is_refused(low: nn.Module, teacher: nn.Module, batches: list) -> None:
    with pytest.raises(UsageError, match="quantize it first"):
        qf.distill(copy.deepcopy(teacher), teacher, batches)
    with pytest.raises(UsageError, match="teacher is quantized"):
        qf.distill(low, low, batches)
    with pytest.raises(UsageError, match="not the same architecture"):
        qf.distill(low, nn.Sequential(nn.Flatten(), nn.Linear(12 * 64, 2)), batches, SETTINGS)
    for given in (batches[0], {"x": batches[0]}):
        with pytest.raises(UsageError, match="expected several batches"):
            qf.distill(low, teacher, batches, SETTINGS, val_batches=given)
    flat = copy.deepcopy(teacher)
    qf.quantize(flat, batches[:1], qf.QuantConfig(rank=0))
    with pytest.raises(UsageError, match="rank above 0"):
        qf.distill(flat, teacher, batches, SETTINGS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "bf16"}, "auto, float32, bfloat16, float16, got 'bf16'"),
        ({"precision": torch.bfloat16}, "got torch.bfloat16"),
        ({"rank": -1}, "rank is a whole number from 0 to"),
        ({"merge_rank": 2.5}, "merge_rank is a whole number from 0 to"),
    ],
)
def test_settings_that_it_does_not_have_are_refused_before_anything_is_computed(
    change: dict, words: str, low: nn.Module, teacher: nn.Module, batches: list
) -> None:
    def never(*_: object) -> None:
        pytest.fail("it was computed")

    with pytest.raises(UsageError, match=words):
        qf.distill(low, teacher, batches, replace(SETTINGS, **change), forward=never)


@pytest.mark.parametrize(("broken", "message"), [(1, "for batch 1 "), (3, "for validation batch 1 ")])
def test_a_batch_whose_output_is_not_finite_is_named(
    low: nn.Module, teacher: nn.Module, batches: list, broken: int, message: str
) -> None:
    given = [batch.clone() for batch in batches[:4]]
    given[broken][0, 0, 0, 0] = torch.nan
    with pytest.raises(UsageError, match=message):
        qf.distill(low, teacher, given[:2], SETTINGS, val_batches=given[2:])


def test_branches_merge_by_the_teachers_fisher_information(
    low: nn.Module, teacher: nn.Module, batches: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    brief, given = replace(SETTINGS, trainer=replace(TRAINER, steps=1)), []
    with_metrics = distill_module.to_integers

    def spy(model: nn.Module, rank: int, metrics: dict[str, torch.Tensor]) -> None:
        given.append((rank, {name: len(root) for name, root in metrics.items()}))
        with_metrics(model, rank, metrics)

    monkeypatch.setattr(distill_module, "to_integers", spy)
    qf.distill(copy.deepcopy(low), teacher, batches[:2], brief)
    qf.distill(low, teacher, batches[:2], replace(brief, merge_rank=4))
    assert given == [(0, {}), (4, {"body.0": 24, "body.3": 24})]
    assert {layer.format.rank for layer in quant_layers(low).values()} == {4}


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="from torch 2.6 on")
def test_a_compiled_pair_learns_as_the_plain_one(low: nn.Module, teacher: nn.Module, batches: list) -> None:
    settings = replace(SETTINGS, trainer=replace(TRAINER, steps=3), merge_rank=4)
    plain, compiled = copy.deepcopy(low), torch.compile(low, backend="eager")
    with torch.no_grad():
        compiled(batches[0])
    for model, exact in ((plain, teacher), (compiled, torch.compile(teacher, backend="eager"))):
        qf.distill(model, exact, batches, settings, include=["body.0"])
    assert all(torch.equal(t, plain.state_dict()[name]) for name, t in low.state_dict().items())
    with torch.no_grad():
        assert torch.equal(compiled.eval()(batches[0])["maps"], plain.eval()(batches[0])["maps"])


def test_both_draw_the_same_noise_and_the_caller_draws_as_before(
    low: nn.Module, teacher: nn.Module, batches: list[torch.Tensor]
) -> None:
    def noisy(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = model(batch)["maps"]
        return maps + 10 * torch.randn(maps.shape)

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    brief = replace(SETTINGS, trainer=replace(TRAINER, steps=2))
    report = qf.distill(low, teacher, batches[:8], brief, val_batches=batches[8:], forward=noisy)
    assert torch.equal(torch.rand(3), expected)
    assert max(report.losses) < 1e-2  # independent noise alone would make it 2
    assert min(score for _, score in report.scores) > 20


class Score(nn.Module):
    """A net's maps, and one number of them."""

    def __init__(self, net: nn.Module, times: float) -> None:
        super().__init__()
        self.net, self.times = net, times

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.net(x)["maps"]
        return maps, maps.mean() * self.times


@pytest.mark.parametrize("times", [1.0, 0.0])
def test_an_output_of_one_number_takes_nothing_over(
    times: float, low: nn.Module, teacher: nn.Module, batches: list[torch.Tensor]
) -> None:
    brief = replace(SETTINGS, trainer=replace(TRAINER, steps=1))
    report = qf.distill(Score(low, times), Score(teacher, times), batches, brief, val_batches=batches[:1])
    maps = teacher(batches[0])["maps"].detach()
    assert report.losses[0] < 1  # errors of outputs like these are shares of the outputs
    if not times:  # and zeros alone are no output at all
        expected = relative_error([low(batches[0])["maps"].detach()], [maps])
        assert report.scores[-1][1] == pytest.approx(-10 * float(expected.log10()), abs=0.2)


def test_where_all_outputs_are_zero_nothing_is_learned() -> None:
    made = torch.ones(3, requires_grad=True)
    loss = relative_error([made], [torch.zeros(3)])
    loss.backward()
    assert float(loss.detach()) == 0
    assert made.grad is not None
    assert not made.grad.any()


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_learns(
    dtype: torch.dtype, precision: str, teacher: nn.Module, batches: list[torch.Tensor]
) -> None:
    exact = copy.deepcopy(teacher).to(dtype)
    model, halves = copy.deepcopy(exact), [batch.to(dtype) for batch in batches]
    qf.quantize(model, halves[:2], qf.QuantConfig(3, 4, rank=4, rounding="nearest"), exclude=["head"])
    settings = replace(SETTINGS, precision=precision, trainer=replace(TRAINER, steps=10))
    report = qf.distill(model, exact, halves[:8], settings, val_batches=halves[8:])
    assert report.scores[-1][1] > report.scores[0][1]
    assert model(halves[0])["maps"].dtype == dtype
