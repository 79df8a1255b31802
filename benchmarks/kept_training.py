"""Keep a training's state in a file, so that an interrupted benchmark resumes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from quantface_core.pipelines.saved_run import resume_run, save_run
from quantface_core.train.trainer import Trainer
from quantface_core.train.training import TrainerCallbacks


class KeptTraining:
    """Callbacks of one training. `resumed` is the CPU seconds it had taken before it was interrupted."""

    def __init__(self, name: str, path: Path | None) -> None:
        """`path` is the state's file; None = keep nothing."""
        self.name, self.path, self.resumed = name, path, 0.0
        self._began = time.process_time()

    def callbacks(self) -> TrainerCallbacks:
        if self.path is None:
            return TrainerCallbacks(on_step=self._on_step)
        return TrainerCallbacks(self._resume, self._on_step, self._save)

    def _on_step(self, trainer: Trainer) -> None:
        print(f"\r{self.name}: step {trainer.done}", end="", file=sys.stderr, flush=True)

    def _save(self, trainer: Trainer) -> None:
        assert self.path is not None
        seconds = self.resumed + time.process_time() - self._began
        save_run(trainer, self.path, self.name, {"seconds": repr(seconds)})

    def _resume(self, trainer: Trainer) -> None:
        assert self.path is not None
        if notes := resume_run(trainer, self.path, self.name):
            self.resumed = float(notes["seconds"])
