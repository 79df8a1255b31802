"""Distill a low-bit restorer: train its low-rank branches to match its full-precision original, and save it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageError
from ..metrics import full_reference
from ..stages.distill import distill as distill_end_to_end
from ..stages.distill import distill_blocks
from ..train.processes import is_main_process
from ..train.settings import resolved
from ..train.training import TrainingReport
from ..types import DistillMode, RestorerDistillConfig
from .callbacks import PipelineCallbacks
from .checksums import images_sha256, source_sha256, weights_sha256
from .faces import FaceSource, load_faces
from .models import LoadedModel, save_model
from .run_folder import run_folder
from .training_run import TrainingRun

# Every field of the config, and the mode.
_NOTED = (
    *("trainer", "rank", "only_distillation", "learn_clips"),
    *("latent_weight", "prompt_weight", "perceptual", "perceptual_weight"),
    *("precision", "merge_rank", "checkpointing", "mode"),
)


@dataclass(frozen=True, eq=False)
class DistillRequest:
    """What to train, towards what, and on which faces."""

    model: LoadedModel  # quantized; trained in place
    teacher: LoadedModel  # full precision; only read
    faces: FaceSource | Tensor  # degraded aligned crops; or [N, 3, S, S] in [-1, 1] at the model's size
    config: RestorerDistillConfig = field(default_factory=RestorerDistillConfig)
    mode: DistillMode = "end-to-end"
    validation: int = 16  # this many of the faces, the last, select the best step; 0 = keep the last step
    folder: Path | None = None  # for curves, images and the state from which a stopped run resumes; None = none
    output: Path | None = None  # the file to write; None = none
    runs: Path | None = None  # without `folder`: where a stopped run is kept for a week, if it can be saved


@dataclass(frozen=True, eq=False)
class DistillResult:
    """The trained model and how training went."""

    model: LoadedModel  # its notes say how it was made
    reports: Mapping[str, TrainingReport]  # by block, in order of training; end-to-end: one, under the empty name
    chart: NDArray[np.uint8]  # [H, W, 3]: the curves, and the faces of the last validation
    warning: str = ""  # where the teacher is not what the model was made from, as its notes say

    @property
    def losses(self) -> tuple[float, ...]:
        """The losses of all steps of the last trained block, or of the whole model."""
        return list(self.reports.values())[-1].losses if self.reports else ()

    @property
    def scores(self) -> tuple[tuple[int, float], ...]:
        """(steps done, dB to the teacher) of validations, as in `TrainingReport`."""
        return list(self.reports.values())[-1].scores if self.reports else ()

    @property
    def advice(self) -> str:
        """What to do where training diverged, or never was better than the model that it started from; else empty."""
        if warning := next((report.warning for report in self.reports.values() if report.warning), ""):
            return warning
        first, *later = [score for _, score in self.scores] or [math.nan]
        if not later or math.isnan(first) or any(score >= first for score in later):
            return ""
        return "no step was better than the start, which is kept: try a lower learning rate or more faces"


def distill(request: DistillRequest, callbacks: PipelineCallbacks | None = None) -> DistillResult:
    """Train a quantized restorer in place; if interrupted or rejected it is left unchanged. Raises QuantFaceError."""
    callbacks = callbacks or PipelineCallbacks()
    restorer, teacher = request.model.restorer, request.teacher.restorer
    config = resolved(request.config, restorer.device)
    if config.perceptual:
        full_reference(config.perceptual)  # an unknown one is told before faces are read
    images = load_faces(request.faces, restorer.image_size, callbacks)
    count = len(images) - max(0, request.validation)
    if count < 1:
        raise UsageError(f"{request.validation} faces for validation leave none of {len(images)} to train on")
    learned, val_images = images[:count], images[count:]
    warning = _teacher_warning(request.model, request.teacher)
    if warning:
        callbacks.notify(warning)
    notes = {
        "distill": json.dumps(noted(config, request.mode)),
        "distill_sha256": images_sha256(learned),
    }
    identity = ""
    if request.folder or request.runs:
        run = [notes, images_sha256(val_images), weights_sha256(restorer), weights_sha256(teacher)]
        identity = hashlib.sha256(json.dumps(run).encode()).hexdigest()
    kept = run_folder(request.runs, identity) if request.runs and not request.folder else nullcontext(request.folder)
    with kept as folder:
        training_run = TrainingRun(config.trainer.steps, callbacks, folder, identity, request.folder is not None)
        watching = training_run.trainer_callbacks()
        with callbacks.cancellable(restorer, teacher):
            if request.mode == "blocks":
                reports = distill_blocks(restorer, teacher, learned, config, watching)
            else:
                reports = {"": distill_end_to_end(restorer, teacher, learned, val_images, config, watching)}
        model = replace(request.model, notes={**request.model.notes, **notes})
        if request.output and is_main_process():
            save_model(model, request.output)  # before what a run has kept is removed: writing may fail
    return DistillResult(model, reports, training_run.chart(), warning)


def noted(config: RestorerDistillConfig, mode: DistillMode) -> dict[str, Any]:
    """How a model was trained, for its file: in a fixed order, since the same training writes the same bytes."""
    values = {**asdict(config), "mode": mode}
    return {key: values[key] for key in _NOTED}


def _teacher_warning(model: LoadedModel, teacher: LoadedModel) -> str:
    """A line where the teacher is not the model that the quantized one notes as its source; else empty."""
    source = model.notes.get("source_sha256")
    if not source or source == source_sha256(teacher.restorer):
        return ""
    return f"{model.name} was made from other weights than the teacher's, {teacher.name}: is it the right one?"
