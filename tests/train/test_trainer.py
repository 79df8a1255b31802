"""Fitting a line: exact resume, several processes, averaging, early stop, divergence."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quantface_core.errors import ModelError, QuantFaceError, UsageError
from quantface_core.train.trainer import Trainer
from quantface_core.types import TrainerSettings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = TrainerSettings(
    steps=12, batch_size=3, learning_rate=0.05, warmup=2, ema=0.9, validate_every=4, save_every=5
)
COUNT = 10
DATA = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(0))
TARGET = DATA @ torch.tensor([1.0, -2.0, 0.5, 3.0]) + 1


def line() -> tuple[dict[str, nn.Parameter], Callable[[Tensor], Tensor]]:
    parameters = {"weight": nn.Parameter(torch.zeros(4)), "bias": nn.Parameter(torch.zeros(()))}

    def loss(indices: Tensor) -> Tensor:
        made = DATA[indices] @ parameters["weight"] + parameters["bias"]
        return (made - TARGET[indices]).square().mean()

    return parameters, loss


def validate_of(parameters: dict[str, nn.Parameter]) -> Callable[[int], float]:
    def validate(_: int) -> float:
        made = DATA @ parameters["weight"] + parameters["bias"]
        return -float((made - TARGET).square().mean().detach())

    return validate


def fitted(settings: TrainerSettings) -> tuple[Trainer, dict[str, nn.Parameter]]:
    parameters, loss = line()
    trainer = Trainer(parameters, settings, COUNT)
    trainer.run(loss, validate_of(parameters))
    return trainer, parameters


def test_the_loss_falls_and_the_averaged_weights_are_left() -> None:
    trainer, parameters = fitted(replace(SETTINGS, steps=300, warmup=5))
    assert len(trainer.losses) == 300
    assert trainer.losses[-1] < 0.01 * trainer.losses[0]
    assert [step for step, _ in trainer.scores] == list(range(0, 301, 4))
    assert trainer.best is not None
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter.data, trainer.best[name])
    assert validate_of(parameters)(0) == max(score for _, score in trainer.scores)


def test_where_no_step_is_better_the_start_is_left() -> None:
    parameters, loss = line()
    trainer = Trainer(parameters, SETTINGS, COUNT)
    trainer.run(loss, lambda step: -float(step))
    assert max(trainer.scores, key=lambda pair: pair[1]) == (0, 0.0)
    assert all(not parameter.any() for parameter in parameters.values())


@pytest.mark.parametrize("stopped", [1, 5, 8, 11])
def test_a_stopped_run_goes_on_to_the_same_weights_bit_for_bit(stopped: int) -> None:
    whole, wanted = fitted(SETTINGS)
    saved: dict[str, Tensor] = {}
    parameters, loss = line()
    trainer = Trainer(parameters, replace(SETTINGS, save_every=stopped), COUNT)

    def stop(at: Trainer) -> None:
        saved.update(at.state())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run(loss, validate_of(parameters), on_save=stop)
    assert trainer.done == stopped

    parameters, loss = line()
    trainer = Trainer(parameters, SETTINGS, COUNT)
    trainer.resume(saved)
    trainer.run(loss, validate_of(parameters))
    assert trainer.losses == whole.losses
    assert trainer.scores == whole.scores
    for name, parameter in parameters.items():
        assert torch.equal(parameter, wanted[name])


def test_a_state_is_a_copy_and_another_runs_is_refused() -> None:
    parameters, loss = line()
    trainer = Trainer(parameters, SETTINGS, COUNT)
    states: list[dict[str, Tensor]] = []
    trainer.run(loss, on_save=lambda at: states.append(at.state()))
    assert len(states) == 3  # after 5, 10 and the last step
    assert not torch.equal(states[0]["parameter.weight"], states[1]["parameter.weight"])
    other = Trainer({"weight": nn.Parameter(torch.zeros(5))}, SETTINGS, COUNT)
    with pytest.raises(UsageError, match=r"another run \(weight\)"):
        other.resume(states[0])


def test_a_state_of_other_settings_or_parameters_is_refused_and_changes_nothing() -> None:
    parameters, loss = line()
    states: list[dict[str, Tensor]] = []
    Trainer(parameters, SETTINGS, COUNT).run(loss, on_save=lambda at: states.append(at.state()))
    state = states[0]
    for change, words in (
        ({"steps": 40}, r"steps 12, not 40"),
        ({"learning_rate": 1e-4}, r"learning_rate 0.05, not 0.0001"),
        ({"seed": 2**43 - 1}, r"seed 0, not 8796093022207"),
    ):
        other = Trainer(line()[0], replace(SETTINGS, **change), COUNT)
        with pytest.raises(UsageError, match=words):
            other.resume(state)
        assert other.losses == []
    with pytest.raises(UsageError, match="images 10, not 11"):
        Trainer(line()[0], SETTINGS, COUNT + 1).resume(state)
    with pytest.raises(UsageError, match=r"another run \(bias\)"):
        Trainer({"weight": line()[0]["weight"]}, SETTINGS, COUNT).resume(state)
    earlier = {name: t for name, t in state.items() if not name.startswith("settings.")}
    for accepted, settings in ((state, replace(SETTINGS, save_every=1)), (earlier, replace(SETTINGS, steps=40))):
        trainer = Trainer(line()[0], settings, COUNT)
        trainer.resume(accepted)
        assert trainer.done == 5


@pytest.mark.parametrize("lost", ["losses", "scores", "average.bias", "best.weight", "exp_avg_sq.weight", "step.bias"])
def test_a_state_that_lacks_something_is_refused_and_changes_nothing(lost: str) -> None:
    parameters, loss = line()
    states: list[dict[str, Tensor]] = []
    Trainer(parameters, SETTINGS, COUNT).run(
        loss, validate_of(parameters), on_save=lambda at: states.append(at.state())
    )
    del states[0][lost]
    parameters, _ = line()
    trainer = Trainer(parameters, SETTINGS, COUNT)
    with pytest.raises(ModelError, match=f"lacks {lost}: delete it"):
        trainer.resume(states[0])
    assert not any(parameter.any() for parameter in parameters.values())
    assert trainer.losses == []


def test_every_image_comes_once_an_epoch_in_an_order_of_the_seed() -> None:
    parameters, _ = line()
    trainer = Trainer(parameters, replace(SETTINGS, batch_size=2, accumulation=2), COUNT)
    drawn = torch.cat([trainer.indices(step, turn) for step in range(5) for turn in range(2)])
    assert sorted(drawn[:COUNT].tolist()) == sorted(drawn[COUNT:].tolist()) == list(range(COUNT))
    assert drawn[:COUNT].tolist() != drawn[COUNT:].tolist()
    other = Trainer(parameters, replace(SETTINGS, batch_size=2, accumulation=2, seed=1), COUNT)
    assert not torch.equal(other.indices(0, 0), trainer.indices(0, 0)) or not torch.equal(
        other.indices(1, 0), trainer.indices(1, 0)
    )


def test_accumulated_turns_are_one_larger_batch() -> None:
    large, _ = fitted(replace(SETTINGS, batch_size=4))
    turns, _ = fitted(replace(SETTINGS, batch_size=2, accumulation=2))
    assert turns.losses == pytest.approx(large.losses, rel=1e-5)


def test_it_stops_when_validation_brings_nothing_better_and_keeps_the_best() -> None:
    parameters, loss = line()
    trainer = Trainer(parameters, replace(SETTINGS, steps=100, validate_every=1, patience=2), COUNT)
    scores = iter([0.0, 1.0, 3.0, 2.0, 2.5, 9.0])
    kept: list[Tensor] = []

    def validate(_: int) -> float:
        kept.append(parameters["weight"].detach().clone())
        return next(scores)

    trainer.run(loss, validate)
    assert trainer.done == 4
    torch.testing.assert_close(parameters["weight"].data, kept[2])


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_divergence_is_told_before_it_reaches_the_weights(broken: str) -> None:
    parameters, loss = line()
    trainer = Trainer(parameters, SETTINGS, COUNT)

    def diverging(indices: Tensor) -> Tensor:
        value = loss(indices)
        if trainer.done < 3:
            return value
        # A root at zero: its value is finite, its gradient is not.
        return value * torch.nan if broken == "loss" else value + (parameters["bias"] * 0).sqrt()

    with pytest.raises(QuantFaceError, match=r"diverged at step 4.*learning rate"):
        trainer.run(diverging)
    assert all(torch.isfinite(p).all() for p in parameters.values())
    assert len(trainer.losses) == 3


def test_what_makes_no_sense_is_refused() -> None:
    parameters, _ = line()
    with pytest.raises(UsageError, match="nothing to train"):
        Trainer({}, SETTINGS, COUNT)
    with pytest.raises(UsageError, match="one image"):
        Trainer(parameters, SETTINGS, 0)
    with pytest.raises(UsageError, match="steps, batch_size"):
        Trainer(parameters, replace(SETTINGS, steps=0, batch_size=0), COUNT)
    with pytest.raises(UsageError, match="learning rate"):
        Trainer(parameters, replace(SETTINGS, learning_rate=0.0), COUNT)


_WORKER = """
import json, sys
sys.path.insert(0, {folder!r})
from test_trainer import SETTINGS, fitted
from dataclasses import replace
from quantface_core.train.trainer import is_main_process
trainer, parameters = fitted(replace(SETTINGS, batch_size=2))
if is_main_process():
    found = dict(losses=trainer.losses, scores=trainer.scores, weight=parameters["weight"].tolist())
    open(sys.argv[1], "w").write(json.dumps(found))
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_do_what_one_does_with_twice_the_batch(tmp_path: Path) -> None:
    one, parameters = fitted(replace(SETTINGS, batch_size=4))
    script, result = tmp_path / "worker.py", tmp_path / "result.json"
    script.write_text(_WORKER.format(folder=str(Path(__file__).parent)))
    # `--multi_gpu` names the launcher of any processes on one machine, as torchrun does; `--cpu` starts just one.
    start = ["--multi_gpu", "--num_processes=2", f"--main_process_port={_free_port()}", str(script), str(result)]
    here = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    here = {name: value for name, value in here.items() if name not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    command = [sys.executable, "-m", "accelerate.commands.launch", *start]
    done = subprocess.run(command, env=here, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    two = json.loads(result.read_text())
    assert two["losses"] == pytest.approx(one.losses, rel=1e-5)
    for found, wanted in zip(two["scores"], one.scores, strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    assert two["weight"] == pytest.approx(parameters["weight"].tolist(), rel=1e-4)


def test_a_run_goes_on_where_a_parameter_has_had_no_gradient_yet() -> None:
    def sparse() -> tuple[dict[str, nn.Parameter], Callable[[Tensor], Tensor]]:
        parameters, loss = line()
        extra = parameters["extra"] = nn.Parameter(torch.ones(()))
        # One image alone reaches it, after the first save: as of a layer that few batches pass.
        return parameters, lambda indices: loss(indices) + (extra.square() if first_drawn_late in indices else 0)

    order = Trainer(line()[0], SETTINGS, COUNT)
    first_drawn_late = int(order.indices(2, 0)[0])
    parameters, loss = sparse()
    whole, states = Trainer(parameters, replace(SETTINGS, save_every=1), COUNT), list[dict[str, Tensor]]()
    whole.run(loss, on_save=lambda at: states.append(at.state()))
    assert "exp_avg.extra" not in states[1]
    assert "exp_avg.extra" in states[2]
    for state in states[1:3]:
        others, loss = sparse()
        trainer = Trainer(others, SETTINGS, COUNT)
        trainer.resume(state)
        trainer.run(loss)
        assert trainer.losses == whole.losses
        assert all(torch.equal(others[name], parameter) for name, parameter in parameters.items())
