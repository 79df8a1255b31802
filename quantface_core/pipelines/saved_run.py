"""The file that holds a training run's state, from which a stopped run resumes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import ModelError, UsageError, WriteError
from ..io.atomic import atomic_path
from ..train.trainer import Trainer


def save_run(trainer: Trainer, path: Path, identity: str, notes: Mapping[str, str] | None = None) -> None:
    """Write a trainer's state atomically. `identity` names the run; `notes` are the caller's. Raises WriteError."""
    try:
        with atomic_path(path) as temporary:
            save_file(trainer.state(), temporary, {**(notes or {}), "run": identity})
    except SafetensorError as error:  # how safetensors reports a full disk
        raise WriteError(f"{path}: cannot write ({error}): the state saved before it is kept") from error


def resume_run(trainer: Trainer, path: Path, identity: str) -> dict[str, str] | None:
    """Resume a trainer from what `save_run` wrote, and return its notes; None without a file.

    Raises UsageError for the state of another run, ModelError for a damaged file; the trainer is then unchanged.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            notes: dict[str, str] = file.metadata() or {}
            if notes.pop("run", None) != identity:
                raise UsageError(f"{path.parent} has a run of other models, settings or images: use another folder")
            with torch.device("cpu"):  # safetensors before 0.6.1 follows torch's default device
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            trainer.resume(state)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged ({error}): delete it to start over") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return notes
