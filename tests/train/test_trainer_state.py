"""A stopped run goes on to the same weights; a state of another run, or a damaged one, is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from quantface_core.errors import ModelError, UsageError
from quantface_core.train.trainer import Trainer
from tests.train.fitting import COUNT, SETTINGS, fitted, line, validate_of


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
    with pytest.raises(UsageError, match="processes 2, not 1"):
        Trainer(line()[0], SETTINGS, COUNT).resume({**state, "settings.processes": torch.tensor(2.0)})
    with pytest.raises(ModelError, match=r"lacks settings\.steps, .*: delete it"):
        Trainer(line()[0], SETTINGS, COUNT).resume({n: t for n, t in state.items() if not n.startswith("settings.")})
    trainer = Trainer(line()[0], replace(SETTINGS, save_every=1), COUNT)
    trainer.resume(state)
    assert trainer.done == 5


def saved_state() -> dict[str, Tensor]:
    """Of a validated run, after its fifth step."""
    parameters, loss = line()
    states: list[dict[str, Tensor]] = []
    Trainer(parameters, SETTINGS, COUNT).run(
        loss, validate_of(parameters), on_save=lambda at: states.append(at.state())
    )
    return states[0]


def assert_refused(state: dict[str, Tensor], words: str) -> None:
    """And the trainer is as it was."""
    parameters, _ = line()
    trainer = Trainer(parameters, SETTINGS, COUNT)
    with pytest.raises(ModelError, match=words):
        trainer.resume(state)
    assert not any(parameter.any() for parameter in parameters.values())
    assert trainer.losses == []
    assert trainer.scores == []


@pytest.mark.parametrize("lost", ["losses", "scores", "average.bias", "best.weight", "exp_avg_sq.weight", "step.bias"])
def test_a_state_that_lacks_something_is_refused_and_changes_nothing(lost: str) -> None:
    state = saved_state()
    del state[lost]
    assert_refused(state, f"lacks {lost}: delete it")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("losses", (2, 2)),
        ("scores", (3, 3)),
        ("scores", (2,)),
        ("average.weight", (5,)),
        ("best.bias", (1,)),
        ("exp_avg.weight", (3,)),
        ("step.bias", (2,)),
        ("settings.steps", (2,)),
    ],
)
def test_a_state_of_other_shapes_is_refused_and_changes_nothing(name: str, shape: tuple[int, ...]) -> None:
    assert_refused({**saved_state(), name: torch.zeros(shape)}, rf"damaged \({name}\): delete it")


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


def test_a_run_with_a_scaled_loss_resumes_with_its_scale() -> None:
    parameters, loss = line()
    states: list[dict[str, Tensor]] = []
    trainer = Trainer(parameters, SETTINGS, COUNT, scale_loss=True)
    trainer.run(
        lambda indices: loss(indices) * (2.0**115 if trainer.done < 2 else 1),
        None,
        None,
        lambda t: states.append(t.state()),
    )
    resumed = Trainer(line()[0], SETTINGS, COUNT, scale_loss=True)
    resumed.resume(states[0])
    assert resumed.scaler.state_dict() == {**trainer.scaler.state_dict(), "_growth_tracker": 3}
    assert resumed.scaler.get_scale() < Trainer(line()[0], SETTINGS, COUNT, scale_loss=True).scaler.get_scale()
    with pytest.raises(ModelError, match=r"lacks scaler\.scale"):
        resumed.resume({name: t for name, t in states[0].items() if not name.startswith("scaler.")})
