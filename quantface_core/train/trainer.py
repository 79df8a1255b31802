"""Train parameters on a loss, step by step: the loop that every kind of distillation shares.

A run is a pure function of its settings and the number of processes: the order of images depends on seed and step
alone, so a run that stopped and goes on from its saved state ends with the same weights. Under `accelerate launch`
(or torchrun) every process takes its share of each step's images and gradients are averaged, zeros where a process
has none: two processes do what one does with twice the batch, where a loss is the mean of its images' losses.
"""

from __future__ import annotations

import atexit
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import QuantFaceError, UsageError
from ..runtime.backward import graph_freed_on_error
from ..types import TrainerSettings
from .settings import check_settings
from .trainer_state import MOMENTS, check_state, settings_state

if TYPE_CHECKING:
    from accelerate import PartialState

Loss = Callable[[Tensor], Tensor]
"""Indices of images [B] int64 -> a scalar."""
Validate = Callable[[int], float]
"""Called with the number of steps done while the averaged weights are in place; higher is better, NaN no score."""
_EPOCH_BITS = 20  # of the number that seeds an epoch's order


class Trainer:
    """One training run: AdamW, warm-up then cosine, averaged weights, early stop, exact resume."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], settings: TrainerSettings, count: int, name: str = ""
    ) -> None:
        """`count` images to draw from; `name` of the part that is trained, empty = all of a model.

        Raises UsageError when there is nothing to train or to draw.
        """
        if not parameters or count < 1:
            raise UsageError("nothing to train" if not parameters else "training needs at least one image")
        check_settings(settings)
        self.parameters, self.settings, self.count, self.name = dict(parameters), settings, count, name
        self.average = {name: p.detach().clone() for name, p in parameters.items()}
        self.best: dict[str, Tensor] | None = None
        self.losses: list[float] = []
        self.scores: list[tuple[int, float]] = []  # (steps done, score)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay
        )

    @property
    def done(self) -> int:
        """Steps done."""
        return len(self.losses)

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the last `patience` validations brought nothing better."""
        patience, scores = self.settings.patience, [score for _, score in self.scores]
        stale = patience > 0 and len(scores) > patience and _best(scores[-patience:]) <= _best(scores[:-patience])
        return self.done >= self.settings.steps or stale

    def run(
        self,
        loss: Loss,
        validate: Validate | None = None,
        on_step: Callable[[Trainer], None] | None = None,
        on_save: Callable[[Trainer], None] | None = None,
    ) -> None:
        """Train to the end, then leave the best averaged weights in place. What a callback raises stops it.

        The weights that it starts from are validated too: where no step is better, they are what is left.
        """
        if validate and not self.scores:
            self._validate(validate)
        while not self.finished:
            self._step(loss)
            if on_step:
                on_step(self)
            last = self.done == self.settings.steps
            if validate and (self.done % self.settings.validate_every == 0 or last):
                self._validate(validate)
            if on_save and (self.done % self.settings.save_every == 0 or self.finished):
                on_save(self)
        self._put(self.best or self.average)

    def _validate(self, validate: Validate) -> None:
        with self.averaged():
            score = validate(self.done)
        if score >= _best(s for _, s in self.scores):
            self.best = {name: p.clone() for name, p in self.average.items()}
        self.scores.append((self.done, score))

    def indices(self, step: int, turn: int) -> Tensor:
        """This process's images of one accumulation turn of one step."""
        rank, world = _process()
        batch = self.settings.batch_size * world
        first = (step * self.settings.accumulation + turn) * batch
        places = range(first, first + batch)
        orders = {epoch: self._order(epoch) for epoch in {p // self.count for p in places}}
        return torch.stack([orders[p // self.count][p % self.count] for p in places])[rank::world]

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.settings.seed << _EPOCH_BITS) + epoch)
        return torch.randperm(self.count, generator=generator)

    def _rate(self, step: int) -> float:
        """The learning rate's share at a step: linear warm-up, then a cosine to a twentieth."""
        warm = min(1.0, (step + 1) / (self.settings.warmup + 1))
        return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / self.settings.steps)))

    def _step(self, loss: Loss) -> None:
        step, settings = self.done, self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * self._rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), dtype=torch.float32)
        for turn in range(settings.accumulation):
            part = loss(self.indices(step, turn)) / settings.accumulation
            with graph_freed_on_error():
                part.backward()
            total += part.detach().cpu()
        _average(total, self.parameters.values())
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        # Before the optimizer's step: weights that are not finite would be saved.
        if not torch.isfinite(total) or not torch.isfinite(norm):
            raise QuantFaceError(f"training diverged at step {step + 1}: choose a lower learning rate")
        self.optimizer.step()
        decay = min(settings.ema, (step + 1) / (step + 10))
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)
        self.losses.append(float(total))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """While it lasts, the averaged weights are in place."""
        raw = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(raw)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])

    def state(self) -> dict[str, Tensor]:
        """Everything a later run needs to go on, as tensors, and the settings that it needs to be of."""
        state = settings_state(self.settings, self.count, _process()[1])
        state["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        state["scores"] = torch.tensor(self.scores, dtype=torch.float64).view(-1, 2)
        for name, parameter in self.parameters.items():
            state[f"parameter.{name}"] = parameter.detach()
            state[f"average.{name}"] = self.average[name]
            if self.best:
                state[f"best.{name}"] = self.best[name]
            for moment, value in self.optimizer.state[parameter].items():
                state[f"{moment}.{name}"] = value
        return {name: t.clone().contiguous() for name, t in state.items()}

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()` of a run with the same settings and processes; when to save may differ.

        Raises UsageError naming the setting or parameter by which it is another run's, ModelError where it is
        damaged; the trainer is then as it was. That the loss is the same is the caller's to see to.
        """
        check_state(state, self.parameters, settings_state(self.settings, self.count, _process()[1]))
        self.losses = state["losses"].tolist()
        self.scores = [(int(step), float(score)) for step, score in state["scores"]]
        self._put({name: state[f"parameter.{name}"] for name in self.parameters})
        moments: dict[int, dict[str, Any]] = {}
        for index, (name, parameter) in enumerate(self.parameters.items()):
            self.average[name] = state[f"average.{name}"].to(parameter.device).clone()
            if f"step.{name}" in state:  # else it had no gradient yet, as of a layer that no batch has reached
                moments[index] = {m: state[f"{m}.{name}"].clone() for m in MOMENTS}
        if any(name.startswith("best.") for name in state):
            self.best = {n: state[f"best.{n}"].to(p.device).clone() for n, p in self.parameters.items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})


def _best(scores: Iterable[float]) -> float:
    """The highest; -inf where there is none."""
    return max((score for score in scores if not math.isnan(score)), default=-math.inf)


def _process() -> tuple[int, int]:
    """(this process, of how many)."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    state = _launched()
    return state.process_index, state.num_processes


def _launched() -> PartialState:
    """The launcher's word on this process."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # Without being told, processes on CPUs would not know of each other and each train a model of its own.
    first = not PartialState._shared_state
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available())
    if first:
        atexit.register(state.destroy_process_group)  # a process that just ends may abort the others
    return state


def _average(loss: Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """Replace the loss and the parameters' gradients by their means over all processes, in place.

    A gradient that a process lacks counts as zeros, as of a layer that its images do not reach; that all lack stays so.
    """
    if _process()[1] == 1:
        return
    from accelerate.utils import reduce

    parameters = list(parameters)
    reached = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    tensors = [loss, reached, *gradients]  # of the same sizes in every process
    # At once, because every round between processes costs more than what it carries; on the launcher's device,
    # because a GPU's processes cannot exchange what lies in memory.
    flat = reduce(torch.cat([t.detach().flatten().float().to(_launched().device) for t in tensors]), "mean")
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
    for parameter, gradient, share in zip(parameters, gradients, reached, strict=True):
        parameter.grad = gradient if share else None


def is_main_process() -> bool:
    """Whether this process writes files and shows progress."""
    return _process()[0] == 0


def launched_device() -> torch.device | None:
    """Where a launcher put this process, when there are several."""
    return None if _process()[1] == 1 else _launched().device
