"""One training run from its first step to its report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..types import TrainerConfig
from .trainer import Loss, Trainer, Validate


@dataclass(frozen=True)
class TrainerCallbacks:
    """Callbacks of a training run. An exception that one raises aborts the run and leaves the model unchanged.

    In blocks mode every block has its own `Trainer`, named after it.
    """

    on_start: Callable[[Trainer], None] | None = None  # before the first step: the moment for `trainer.resume`
    on_step: Callable[[Trainer], None] | None = None
    on_save: Callable[[Trainer], None] | None = None  # a good moment to save `trainer.state()`
    # Called with steps done and [N, 3, 3, S, S] in [-1, 1]: degraded, full precision, low-bit.
    on_validation_images: Callable[[int, Tensor], None] | None = None


@dataclass(frozen=True)
class TrainingReport:
    """The course of a training run."""

    losses: tuple[float, ...]  # one per step
    # (steps done, dB relative to the teacher on held-out data): PSNR of one-step restorers' images; for other models
    # -10 log10 of `relative_error`, which is relative to the outputs' variance, not to an image's range.
    scores: tuple[tuple[int, float], ...]
    diverged_at: int = 0  # the step at which training diverged and ended, its best step kept; 0 = it did not

    @property
    def warning(self) -> str:
        """What happened where training diverged; else empty."""
        if not self.diverged_at:
            return ""
        validated = [(step, score) for step, score in reversed(self.scores) if not math.isnan(score)]
        step, score = max(validated, key=lambda pair: pair[1])  # of equal ones the last
        kept = f"step {step}, the best one validated ({score:.2f} dB), is kept"
        return f"training diverged at step {self.diverged_at}: {kept}; a lower learning rate may do better"


def train(
    parameters: Mapping[str, nn.Parameter],
    config: TrainerConfig,
    count: int,
    loss: Loss,
    validate: Validate | None = None,
    callbacks: TrainerCallbacks | None = None,
    name: str = "",
    scale_loss: bool = False,
) -> TrainingReport:
    """Train parameters in place to the end; takes and raises what `Trainer` and `Trainer.run` do.

    The best averaged weights are left in place, or the last without `validate`.
    """
    callbacks = callbacks or TrainerCallbacks()
    trainer = Trainer(parameters, config, count, name, scale_loss)
    if callbacks.on_start:
        callbacks.on_start(trainer)
    trainer.run(loss, validate, callbacks.on_step, callbacks.on_save)
    return TrainingReport(tuple(trainer.losses), tuple(trainer.scores), trainer.diverged_at)
