"""A training whose state is kept in a file: a benchmark that was cut off goes on where it was."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from quantface_core.io.atomic import atomic_path
from quantface_core.stages.distill import TrainerCallbacks
from quantface_core.train.trainer import Trainer


class KeptTraining:
    """Callbacks of one training. `resumed` is how many seconds of the processor it had taken before it was cut off."""

    def __init__(self, name: str, path: Path | None) -> None:
        """`path` = None keeps nothing."""
        self.name, self.path, self.resumed = name, path, 0.0
        self._began = time.process_time()

    def callbacks(self) -> TrainerCallbacks:
        if self.path is None:
            return TrainerCallbacks(on_step=self._on_step)
        return TrainerCallbacks(on_step=self._on_step, on_save=self._save, resume=self._resume)

    def _on_step(self, trainer: Trainer) -> None:
        print(f"\r{self.name}: step {trainer.done}", end="", file=sys.stderr, flush=True)

    def _save(self, trainer: Trainer) -> None:
        assert self.path is not None
        seconds = torch.tensor(self.resumed + time.process_time() - self._began, dtype=torch.float64)
        with atomic_path(self.path) as temporary:
            save_file({**trainer.state(), "seconds": seconds}, temporary)

    def _resume(self, trainer: Trainer) -> None:
        assert self.path is not None
        if self.path.exists():
            state = load_file(self.path)
            self.resumed = float(state.pop("seconds"))
            trainer.resume(state)
