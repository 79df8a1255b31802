"""A training run as its caller sees it: progress, curves and faces; and the folder from which a stopped run resumes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..charts import draw_faces, draw_losses, save_chart
from ..errors import ModelError, WriteError
from ..io.atomic import write_text
from ..train.processes import is_main_process
from ..train.trainer import Trainer
from ..train.training import TrainerCallbacks
from .callbacks import PipelineCallbacks, StageProgress
from .saved_run import resume_run, save_run

_PREVIEWED, _SAVED = 3, 4  # validation faces in the caller's preview, in the folder's faces.png
_PAUSE = 1.0  # seconds between two previews
_UNSAVED = 300.0  # seconds of work after which the state is saved, besides every `save_every` steps


class TrainingRun:
    """Watches trainers: one of a whole model, or one per block, whose files are prefixed with the block's name."""

    def __init__(
        self,
        steps: int,
        callbacks: PipelineCallbacks,
        folder: Path | None = None,
        identity: str = "",
        must_save: bool = True,
    ) -> None:
        """`folder` gets losses.csv and .png, faces.png, and state.safetensors, whose run `identity` names.

        Where it cannot be written to or what is in it is damaged, the run ends with an error, or without `must_save`
        goes on.
        """
        self.steps, self.folder, self.identity, self._must_save = steps, folder, identity, must_save
        self._callbacks, self._told = callbacks, False  # that it cannot be saved
        self._losses: Sequence[float] = ()
        self._scores: Sequence[tuple[int, float]] = ()
        self._faces: Tensor | None = None  # [N, 3, 3, S, S] in [-1, 1], of the last validation
        self._previewed = 0.0
        self._saved = time.monotonic()

    def trainer_callbacks(self) -> TrainerCallbacks:
        """The callbacks to pass to trainers; they save and resume when there is a folder."""
        kept = self.folder is not None
        return TrainerCallbacks(
            on_start=self._on_start,
            on_step=self._on_step,
            on_save=self._save_state if kept else None,
            on_validation_images=self._on_validation_images,
        )

    def chart(self) -> NDArray[np.uint8]:
        """The curves, and below them the faces (degraded, full-precision, low-bit), as [H, W, 3] RGB."""
        curves = draw_losses(self._losses, self._scores, self.steps)
        if self._faces is None:
            return curves
        faces, width = draw_faces(self._faces[:_PREVIEWED]), curves.shape[1]
        height = max(1, round(faces.shape[0] * width / faces.shape[1]))
        return np.concatenate([curves, cv2.resize(faces, (width, height), interpolation=cv2.INTER_AREA)])

    def _on_start(self, trainer: Trainer) -> None:
        if self.folder:
            self._resume(trainer)
        if is_main_process():
            self._report(trainer)  # the first validation may take minutes

    def _on_step(self, trainer: Trainer) -> None:
        self._losses, self._scores = tuple(trainer.losses), tuple(trainer.scores)
        if not is_main_process():
            return
        # Where a validation comes next, a state without it would never be validated.
        validated_next = trainer.done % trainer.config.validate_every == 0 or trainer.done == self.steps
        if self.folder and not validated_next and time.monotonic() - self._saved > _UNSAVED:
            self._save_state(trainer)  # before the caller's callbacks, which may cancel
        self._report(trainer)
        if time.monotonic() - self._previewed > _PAUSE or trainer.done == self.steps:
            self._preview()

    def _report(self, trainer: Trainer) -> None:
        told = [f"loss {loss:.2e}" for loss in trainer.losses[-1:]] + [f"{db:.2f} dB" for _, db in trainer.scores[-1:]]
        stage = f"distill {trainer.name}".strip()
        self._callbacks.progress(StageProgress(stage, trainer.done, self.steps, "step", ", ".join(told)))

    def _preview(self) -> None:
        if self._callbacks.preview:
            self._previewed = time.monotonic()
            self._callbacks.preview(self.chart())

    def _on_validation_images(self, _: int, pictures: Tensor) -> None:
        if not is_main_process():
            return
        self._faces = pictures
        self._preview()
        if self.folder:
            with self._saving():
                save_chart(draw_faces(pictures[:_SAVED]), self.folder / "faces.png")

    def _file(self, trainer: Trainer, name: str) -> Path:
        assert self.folder is not None
        return self.folder / (f"{trainer.name}.{name}" if trainer.name else name)

    def _save_state(self, trainer: Trainer) -> None:
        if not is_main_process():
            return
        self._saved = time.monotonic()
        with self._saving():
            save_run(trainer, self._file(trainer, "state.safetensors"), self.identity)
            save_chart(draw_losses(trainer.losses, trainer.scores, self.steps), self._file(trainer, "losses.png"))
            write_text(self._file(trainer, "losses.csv"), losses_table(trainer.losses, trainer.scores))

    @contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except WriteError as error:
            if self._must_save:
                raise
            if not self._told:
                self._callbacks.notify(f"the training goes on, but cannot be resumed if it stops: {error}")
            self._told = True

    def _resume(self, trainer: Trainer) -> None:
        try:
            if resume_run(trainer, self._file(trainer, "state.safetensors"), self.identity) is None:
                return
        except ModelError as error:
            if self._must_save:
                raise
            self._callbacks.notify(f"the training starts over, what was kept of it is damaged ({error})")
            return
        self._losses, self._scores = tuple(trainer.losses), tuple(trainer.scores)


def losses_table(losses: Sequence[float], scores: Sequence[tuple[int, float]]) -> str:
    """CSV with a line per step done: its loss, and dB to the teacher where it was validated; step 0 is the start."""
    validated = dict(scores)
    lines = [f"{step},{loss},{validated.get(step, '')}" for step, loss in enumerate(["", *losses])]
    return "\n".join(["step,loss,validation_db", *lines[0 if 0 in validated else 1 :], ""])
