"""Fitting a line: averaging, the best step, early stop, divergence, settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from quantface_core.errors import QuantFaceError, UsageError
from quantface_core.train.trainer import Trainer
from quantface_core.train.training import TrainingReport, train
from tests.train.fitting import COUNT, SETTINGS, fitted, line, validate_of


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


@pytest.mark.parametrize(
    ("scores", "done", "best"),
    [([0.0, 1.0, 3.0, 2.0, 2.5, 9.0], 4, 2), ([torch.nan, 1.0, torch.nan, 3.0, torch.nan, torch.nan, 9.0], 5, 3)],
    ids=["numbers", "what is no number is no score"],
)
def test_it_stops_when_validation_brings_nothing_better_and_keeps_the_best(
    scores: list[float], done: int, best: int
) -> None:
    parameters, loss = line()
    trainer = Trainer(parameters, replace(SETTINGS, steps=100, validate_every=1, patience=2), COUNT)
    kept: list[Tensor] = []

    def validate(_: int) -> float:
        kept.append(parameters["weight"].detach().clone())
        return scores[len(kept) - 1]

    trainer.run(loss, validate)
    assert trainer.done == done
    torch.testing.assert_close(parameters["weight"].data, kept[best])


def test_validations_without_any_score_stop_nothing() -> None:
    parameters, loss = line()
    trainer = Trainer(parameters, replace(SETTINGS, steps=6, validate_every=1, patience=2), COUNT)
    trainer.run(loss, lambda _: torch.nan)
    assert trainer.done == 6


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


def test_after_a_better_step_divergence_ends_the_run_with_the_best_one() -> None:
    parameters, loss = line()
    scores = {0: 1.0, 1: torch.nan, 2: 3.0, 3: 2.0}
    kept: dict[int, Tensor] = {}

    def validate(step: int) -> float:
        kept[step] = parameters["weight"].detach().clone()
        return scores[step]

    def diverging(indices: Tensor) -> Tensor:
        return loss(indices) * (torch.nan if len(kept) == len(scores) else 1)

    report = train(parameters, replace(SETTINGS, validate_every=1), COUNT, diverging, validate)
    assert torch.equal(parameters["weight"].data, kept[2])
    assert len(report.losses) == 3
    assert "diverged at step 4: step 2, the best one validated (3.00 dB), is kept" in report.warning

    equal = TrainingReport((1.0,) * 3, ((0, 1.0), (1, 2.0), (2, 2.0), (3, torch.nan)), 4)
    assert "step 2, the best one validated" in equal.warning  # the last of these is kept

    scores |= {0: 5.0}
    kept.clear()
    parameters, loss = line()
    with pytest.raises(QuantFaceError, match="diverged at step 4: choose a lower learning rate"):
        train(parameters, replace(SETTINGS, validate_every=1), COUNT, diverging, validate)


def test_a_scaled_loss_trains_alike_and_skips_steps_that_overflow() -> None:
    plain, expected = fitted(SETTINGS)
    parameters, loss = line()
    trainer = Trainer(parameters, SETTINGS, COUNT, scale_loss=True)
    trainer.run(loss, validate_of(parameters))
    assert trainer.losses == plain.losses  # a power of two changes no gradient's digits
    assert all(torch.equal(parameters[name], expected[name]) for name in parameters)

    parameters, loss = line()
    trainer = Trainer(parameters, replace(SETTINGS, steps=2), COUNT, scale_loss=True)
    scale = trainer.scaler.get_scale()
    trainer.run(lambda indices: loss(indices) * (2.0**120 if trainer.done == 0 else 1))
    assert trainer.scaler.get_scale() == scale / 2
    assert all(int(trainer.optimizer.state[p]["step"]) == 1 for p in parameters.values())


def test_a_scaled_loss_that_overflows_at_any_scale_diverges() -> None:
    parameters, loss = line()
    trainer = Trainer(parameters, replace(SETTINGS, steps=100), COUNT, scale_loss=True)
    with pytest.raises(QuantFaceError, match="diverged at step 17"):  # the scale begins at 2^16
        trainer.run(lambda indices: loss(indices) + (parameters["bias"] * 0).sqrt())
    assert all(not parameter.any() for parameter in parameters.values())


def test_what_makes_no_sense_is_refused() -> None:
    parameters, _ = line()
    with pytest.raises(UsageError, match="nothing to train"):
        Trainer({}, SETTINGS, COUNT)
    with pytest.raises(UsageError, match="one image"):
        Trainer(parameters, SETTINGS, 0)
    with pytest.raises(UsageError, match=r"steps is a whole number from 1 .*got 0; batch_size is"):
        Trainer(parameters, replace(SETTINGS, steps=0, batch_size=0), COUNT)


def test_numpys_numbers_are_numbers() -> None:
    config = replace(SETTINGS, steps=np.int64(2), learning_rate=np.float32(0.25))
    assert Trainer(line()[0], config, COUNT).config == replace(SETTINGS, steps=2, learning_rate=0.25)
    with pytest.raises(UsageError, match="steps is a whole number"):
        Trainer(line()[0], replace(SETTINGS, steps=np.float64(2)), COUNT)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("steps", (0, 2.5, True, 10**400, "4"), "whole number from 1 to"),
        ("warmup", (-1, 0.5), "whole number from 0 to"),
        ("seed", (-1, 1.5, 2**43), "whole number from 0 to"),
        ("weight_decay", (-1e-3, torch.nan, torch.inf, "0"), "weight_decay is a number from 0 to"),
        ("learning_rate", (torch.nan, torch.inf, 1e38), "learning_rate is a number from 0 to"),
        ("learning_rate", (0.0,), "learning_rate must be above 0"),
        ("ema", (torch.nan,), "ema is a number"),
        ("ema", (1.0,), "below 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, values: tuple, words: str) -> None:
    for value in values:
        with pytest.raises(UsageError, match=words):
            Trainer(line()[0], replace(SETTINGS, **{name: value}), COUNT)
