"""How a pipeline reports to its caller while it works, and how the caller ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StageProgress:
    """How far a stage of a pipeline has come."""

    stage: str  # what is being done, in a word or two: calibrate, quantize, measure, distill unet.mid_block, restore
    done: int
    total: int
    unit: str = ""  # of what is counted: image, layer, step, face, photo, byte
    detail: str = ""  # how it is going, such as a loss; empty = nothing to report


def _ignore(_: object) -> None:
    """The default callback: does nothing."""


@dataclass(frozen=True)
class PipelineCallbacks:
    """All of them are optional. An exception that one raises ends the work and leaves models and files as they were."""

    progress: Callable[[StageProgress], None] = _ignore
    preview: Callable[[NDArray[np.uint8]], None] | None = None  # an image [H, W, 3] of the work so far
    notify: Callable[[str], None] = _ignore  # a line that the user should see
    check_cancelled: Callable[[], None] | None = None  # called before every layer computes; raises to cancel

    def stage(self, name: str, unit: str) -> Callable[[int, int], None]:
        """Return a stage's own progress callback, which is called with (done, total)."""

        def report(done: int, total: int) -> None:
            self.progress(StageProgress(name, done, total, unit))

        return report

    def check(self) -> None:
        """Call `check_cancelled`, which raises when the user has cancelled."""
        if self.check_cancelled:
            self.check_cancelled()

    @contextmanager
    def cancellable(self, *models: Any) -> Iterator[None]:
        """Inside the context, every layer of the models calls `check_cancelled` before it computes (`cancel_hooks`)."""
        if self.check_cancelled is None:
            yield
            return
        # imported here: a caller that only makes callbacks does not wait for torch
        from torch import nn

        from ..nn.cancel_hooks import cancel_hooks

        with cancel_hooks(self.check_cancelled, *(model for model in models if isinstance(model, nn.Module))):
            yield
