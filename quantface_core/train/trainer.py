"""Train parameters on a loss, step by step: the loop that every kind of distillation shares.

A run is a pure function of its settings and the number of processes: the order of images depends only on seed and step,
so a run that was stopped and resumed from its saved state ends with the same weights. Under `accelerate launch` (or
torchrun) every process takes its share of each step's images and gradients are averaged, a missing one counting as
zeros: two processes do what one does with twice the batch, if the loss is the mean of its images' losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import QuantFaceError, UsageError
from ..runtime.backward import graph_freed_on_error
from ..types import TrainerConfig
from .processes import average_gradients, rank_and_world_size
from .settings import checked
from .trainer_state import MOMENTS, SCALER, check_state, settings_state

Loss = Callable[[Tensor], Tensor]
"""Image indices [B] int64 -> a scalar."""
Validate = Callable[[int], float]
"""Called with the number of steps done while the averaged weights are in place; higher is better, NaN = no score."""
_EPOCH_BITS = 20  # for the epoch, in the seed of its order


class Trainer:
    """One training run: AdamW, warm-up then cosine decay, averaged weights (EMA), early stopping, exact resume."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        config: TrainerConfig,
        count: int,
        name: str = "",
        scale_loss: bool = False,
    ) -> None:
        """`count` is the number of images to draw from; `name` that of the trained part, empty = the whole model.

        `scale_loss` keeps float16 gradients from underflowing: the loss is multiplied by a factor, which is divided
        from the gradients and adapts to them; a step whose gradients overflow is skipped. Raises UsageError when there
        is nothing to train or to draw from, or a field of the config is out of bounds.
        """
        if not parameters or count < 1:
            raise UsageError("nothing to train" if not parameters else "training needs at least one image")
        config = checked(config)
        self.parameters, self.config, self.count, self.name = dict(parameters), config, count, name
        self.average = {name: p.detach().clone() for name, p in parameters.items()}
        self.best: dict[str, Tensor] | None = None
        self.losses: list[float] = []
        self.scores: list[tuple[int, float]] = []  # (steps done, score)
        self.diverged_at = 0  # the step at which training diverged, after a better one than the start; 0 = it did not
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        device = next(iter(self.parameters.values())).device
        self.scaler = torch.amp.GradScaler(device.type, enabled=scale_loss)

    @property
    def done(self) -> int:
        """Steps done."""
        return len(self.losses)

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the last `patience` validations brought no improvement."""
        patience, scores = self.config.patience, [score for _, score in self.scores]
        best, latest = _best(scores[:-patience]), _best(scores[-patience:])
        stale = patience > 0 and best > -math.inf and latest <= best  # without any score yet, none can be better
        return self.done >= self.config.steps or stale

    def run(
        self,
        loss: Loss,
        validate: Validate | None = None,
        on_step: Callable[[Trainer], None] | None = None,
        on_save: Callable[[Trainer], None] | None = None,
    ) -> None:
        """Train to the end, then leave the best averaged weights in place. An exception from a callback aborts it.

        The initial weights are validated too, and are the result if no step improves on them. Where training diverges,
        it ends if a validated step is better than the start, and raises QuantFaceError otherwise.
        """
        if validate and not self.scores:
            self._validate(validate)
        while not self.finished:
            if not self._step(loss):
                self._end_diverged()
                break
            if on_step:
                on_step(self)
            last = self.done == self.config.steps
            if validate and (self.done % self.config.validate_every == 0 or last):
                self._validate(validate)
            if on_save and (self.done % self.config.save_every == 0 or self.finished):
                on_save(self)
        self._put(self.best or self.average)

    def _validate(self, validate: Validate) -> None:
        with self.averaged():
            score = validate(self.done)
        if score >= _best(s for _, s in self.scores):
            self.best = {name: p.clone() for name, p in self.average.items()}
        self.scores.append((self.done, score))

    def indices(self, step: int, turn: int) -> Tensor:
        """This process's image indices [B] int64 for one accumulation turn of one step."""
        rank, world = rank_and_world_size()
        batch = self.config.batch_size * world
        first = (step * self.config.accumulation + turn) * batch
        places = range(first, first + batch)
        orders = {epoch: self._order(epoch) for epoch in {p // self.count for p in places}}
        return torch.stack([orders[p // self.count][p % self.count] for p in places])[rank::world]

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.config.seed << _EPOCH_BITS) + epoch)
        return torch.randperm(self.count, generator=generator, device="cpu")

    def _rate(self, step: int) -> float:
        """The share of the peak learning rate at a step: linear warm-up, then cosine decay to a twentieth."""
        warm = min(1.0, (step + 1) / (self.config.warmup + 1))
        return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / self.config.steps)))

    def _step(self, loss: Loss) -> bool:
        """Take one step; False where loss or gradients are not finite: nothing has changed then."""
        step, config = self.done, self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * self._rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device="cpu", dtype=torch.float32)
        for turn in range(config.accumulation):
            part = loss(self.indices(step, turn)) / config.accumulation
            with graph_freed_on_error():
                self.scaler.scale(part).backward()
            total += part.detach().cpu()
        average_gradients(total, self.parameters.values())
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        # Before the optimizer's step, so that non-finite weights are never saved.
        if not torch.isfinite(total) or not (torch.isfinite(norm) or self.scaler.get_scale() > 1):
            return False
        self.scaler.step(self.optimizer)
        self.scaler.update()
        torch.clear_autocast_cache()  # which an autocast around the run keeps: casts of the weights before this step
        decay = min(config.ema, (step + 1) / (step + 10))
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)
        self.losses.append(float(total))
        return True

    def _end_diverged(self) -> None:
        """Raise QuantFaceError unless a validated step is better than the start: hours of training may be in it."""
        step, scores = self.done + 1, [score for _, score in self.scores]
        if _best(scores[1:]) <= _best(scores[:1]):
            raise QuantFaceError(f"training diverged at step {step}: choose a lower learning rate")
        self.diverged_at = step

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block, the averaged weights are in place."""
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
        torch.clear_autocast_cache()

    def state(self) -> dict[str, Tensor]:
        """Everything needed to resume, as tensors, and the settings that have to match."""
        state = settings_state(self.config, self.count, rank_and_world_size()[1])
        state["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        state["scores"] = torch.tensor(self.scores, dtype=torch.float64).view(-1, 2)
        for name, parameter in self.parameters.items():
            state[f"parameter.{name}"] = parameter.detach()
            state[f"average.{name}"] = self.average[name]
            if self.best:
                state[f"best.{name}"] = self.best[name]
            for moment, value in self.optimizer.state[parameter].items():
                state[f"{moment}.{name}"] = value
        if self.scaler.is_enabled():
            kept = self.scaler.state_dict()
            state |= {f"scaler.{key}": torch.tensor(kept[key], dtype=torch.float64) for key in SCALER}
        return {name: t.clone().contiguous() for name, t in state.items()}

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Resume from the `state()` of a run with the same settings and number of processes; `save_every` may differ.

        Raises UsageError naming the setting or parameter that differs, ModelError where the state is damaged; the
        trainer is then unchanged. That the loss is the same is up to the caller.
        """
        wanted = settings_state(self.config, self.count, rank_and_world_size()[1])
        check_state(state, self.parameters, wanted, self.scaler.is_enabled())
        self.losses = state["losses"].tolist()
        self.scores = [(int(step), float(score)) for step, score in state["scores"]]
        self._put({name: state[f"parameter.{name}"] for name in self.parameters})
        moments: dict[int, dict[str, Any]] = {}
        for index, (name, parameter) in enumerate(self.parameters.items()):
            self.average[name] = state[f"average.{name}"].to(parameter.device).clone()
            if f"step.{name}" in state:  # else it has had no gradient yet: no batch has reached its layer
                moments[index] = {m: state[f"{m}.{name}"].clone() for m in MOMENTS}
        if any(name.startswith("best.") for name in state):
            self.best = {n: state[f"best.{n}"].to(p.device).clone() for n, p in self.parameters.items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        if self.scaler.is_enabled():
            kept = {key: kind(state[f"scaler.{key}"]) for key, kind in SCALER.items()}
            self.scaler.load_state_dict({**self.scaler.state_dict(), **kept})


def images_drawn(config: TrainerConfig) -> int:
    """How many images a run draws in all, over all processes; of more than these it sees only some."""
    return config.steps * config.accumulation * config.batch_size * rank_and_world_size()[1]


def _best(scores: Iterable[float]) -> float:
    """The highest score; -inf without scores."""
    return max((score for score in scores if not math.isnan(score)), default=-math.inf)
