"""What a pipeline tells its caller while it works, and how the caller ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Progress:
    """How far a stage of a pipeline is."""

    stage: str  # what is being done, in a word or two: calibrate, quantize, measure, distill unet.mid_block, restore
    done: int
    total: int
    unit: str = ""  # of what is counted: image, layer, step, face, photo, byte
    detail: str = ""  # how it goes, such as a loss; empty = nothing to tell


def _ignore(_: object) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class PipelineCallbacks:
    """All of them are optional. What one raises ends the work: models and files are then as they were."""

    progress: Callable[[Progress], None] = _ignore
    preview: Callable[[NDArray[np.uint8]], None] | None = None  # a picture [H, W, 3] of what is being made
    notify: Callable[[str], None] = _ignore  # a line that the user should see
    check_cancelled: Callable[[], None] | None = None  # called before every layer computes; raises to cancel

    def stage(self, name: str, unit: str) -> Callable[[int, int], None]:
        """A stage's own progress callback, of (done, in all)."""

        def report(done: int, total: int) -> None:
            self.progress(Progress(name, done, total, unit))

        return report

    def check(self) -> None:
        """Raise what the caller raises when the user has cancelled."""
        if self.check_cancelled:
            self.check_cancelled()

    @contextmanager
    def cancellable(self, *models: Any) -> Iterator[None]:
        """While it lasts, every layer of the models calls `check_cancelled` before it computes: see `cancel_hooks`."""
        if self.check_cancelled is None:
            yield
            return
        # torch, which a caller that only makes callbacks does not wait for
        from torch import nn

        from ..nn.cancel_hooks import cancel_hooks

        with cancel_hooks(self.check_cancelled, *(model for model in models if isinstance(model, nn.Module))):
            yield
