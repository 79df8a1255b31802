"""A teacher's outputs are computed when they are first drawn, kept while there is room, and the same either way."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import quantface_core as qf
from quantface_core.errors import UsageError
from quantface_core.train import targets as targets_module
from quantface_core.train.targets import Targets

BATCHES = list(torch.randn(9, 4, 8, generator=torch.Generator().manual_seed(0)))
SETTINGS = qf.DistillConfig(
    qf.TrainerConfig(steps=3, batch_size=2, learning_rate=1e-2, warmup=0, ema=0.5, validate_every=1),
    rank=2,
    precision="float32",
)


class Counted(nn.Module):
    """A net that remembers how often it was called with each batch, and whether it was in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = nn.Sequential(nn.Linear(8, 16), nn.Dropout(), nn.Linear(16, 3)), [0] * len(BATCHES)

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        self.calls[next(i for i, batch in enumerate(BATCHES) if torch.equal(batch, x))] += 1
        made: Tensor = self.net(x)
        return made


def pair() -> tuple[nn.Module, Counted]:
    torch.manual_seed(0)
    teacher = Counted()
    model = copy.deepcopy(teacher)
    qf.quantize(model, BATCHES[:1], qf.QuantConfig(3, 4, rank=4, rounding="nearest", branch="svd"))
    return model, teacher.train()


def test_the_teacher_runs_once_on_each_batch_that_is_drawn() -> None:
    model, teacher = pair()
    qf.distill(model, teacher, BATCHES[:8], SETTINGS, val_batches=BATCHES[8:])
    assert sorted(teacher.calls[:8]) == [0, 0, 1, 1, 1, 1, 1, 1]  # three steps of two
    assert teacher.calls[8] == 1
    assert teacher.training  # as it was


@pytest.mark.parametrize(("room", "runs"), [(0, 4), (48, 1)])
def test_without_room_it_runs_again_and_the_result_is_the_same(
    room: int, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, teacher = pair()
    other = copy.deepcopy(model)
    qf.distill(model, teacher, BATCHES[:2], SETTINGS, val_batches=BATCHES[8:])
    monkeypatch.setattr(targets_module, "_HELD", room)  # bytes of the validation batch's four outputs of three numbers
    teacher.calls = [0] * len(BATCHES)
    qf.distill(other, teacher, BATCHES[:2], SETTINGS, val_batches=BATCHES[8:])
    assert (teacher.calls[0], teacher.calls[8]) == (3, runs)
    assert all(torch.equal(t, other.state_dict()[name]) for name, t in model.state_dict().items())


def test_targets_are_in_float32_and_without_gradients() -> None:
    targets_of = Targets(nn.Linear(8, 3).double(), lambda network, i: [network(BATCHES[i].double())], 9)
    (made,) = targets_of(2)
    assert made.dtype == torch.float32
    assert not made.requires_grad
    assert targets_of(2)[0] is made


def test_a_teacher_without_tensors_is_refused() -> None:
    model, teacher = pair()
    with pytest.raises(UsageError, match="holds no floating-point tensor"):
        qf.distill(model, teacher, BATCHES, SETTINGS, forward=lambda network, batch: network(batch).argmax())
