"""Restore the faces of many photos with one model: loaded once; a photo that fails is reported, the rest goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import QuantFaceError
from ..faces.detect import FaceDetector
from ..io.checkpoint import load_restorer
from ..io.models import detector_path
from ..kernels.dispatch import choose_backend
from ..nn.swap import prepare
from ..restorer import Restorer, RestorerByParts
from ..types import Face, Pixels, RestoreOptions
from .callbacks import PipelineCallbacks, Progress
from .jobs import Job
from .models import LoadedModel, one_step
from .restore_file import FileReport, FileRequest, restore_file


@dataclass(frozen=True)
class RestoreRequest:
    """Which photos, with which model, and how."""

    jobs: Sequence[Job]
    model: Path  # its file
    options: RestoreOptions
    device: torch.device
    backend: str = "auto"  # what computes low-bit layers
    precision: str = "auto"  # between the integers: float32, bfloat16, or what is quickest on the device
    aligned: bool = False  # each picture is one aligned face; needs no detector
    low_memory: bool = False  # one part of the model in memory at a time


@dataclass(frozen=True)
class PhotoResult:
    """What became of one photo: a report, or an error."""

    source: Path
    report: FileReport | None
    error: str  # one line with the photo's name; empty = none
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        outcome = self.report.to_dict() if self.report else {"error": self.error}
        return {"source": str(self.source), **outcome, "seconds": round(self.seconds, 3)}


def restore(request: RestoreRequest, callbacks: PipelineCallbacks | None = None) -> Iterator[PhotoResult]:
    """Each photo's result as it is finished. Raises QuantFaceError before the first; afterwards errors are results."""
    callbacks = callbacks or PipelineCallbacks()
    restorer = ready(request.model, request.device, request.backend, request.precision, request.low_memory)
    detector = None if request.aligned else FaceDetector(detector_path())
    within = PipelineCallbacks(notify=callbacks.notify, check_cancelled=callbacks.check_cancelled)
    for number, job in enumerate(request.jobs):
        callbacks.progress(Progress("restore", number, len(request.jobs), "photo", job.source.name))
        yield _restored(job, restorer, detector, request.options, within)
    callbacks.progress(Progress("restore", len(request.jobs), len(request.jobs), "photo"))


def ready(
    model: Path, device: torch.device, backend: str = "auto", precision: str = "auto", low_memory: bool = False
) -> Restorer:
    """A model's restorer, loaded as `RestoreRequest` says. Raises ModelError, and UsageError for what is not here."""
    chosen = choose_backend(device, None if backend == "auto" else backend)
    dtype = None if precision == "auto" else getattr(torch, precision)

    def load(only: tuple[str, ...] = ("",)) -> LoadedModel:
        restorer = load_restorer(model, device, dtype, only)
        prepare(restorer, chosen)
        return LoadedModel(model.stem, restorer)

    if not low_memory:
        return load().restorer
    return RestorerByParts(one_step(load(())).config, device, lambda only: one_step(load(only)))


def _restored(
    job: Job,
    restorer: Restorer,
    detector: Callable[[Pixels], Sequence[Face]] | None,
    options: RestoreOptions,
    callbacks: PipelineCallbacks,
) -> PhotoResult:
    began = time.perf_counter()
    report, reason = None, ""
    try:
        report = restore_file(FileRequest(job, restorer, detector, options), callbacks)
    except Exception as error:  # readers' and plugins' too: it is this photo's, and the rest goes on
        reason = _reason(job, error)
    return PhotoResult(job.source, report, reason, time.perf_counter() - began)


def _reason(job: Job, error: Exception) -> str:
    """One line with the photo's name."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text:
        text = f"out of memory: {text or 'give the photo smaller, or --low-memory'}"
        text = text if isinstance(error, MemoryError | QuantFaceError) else "out of memory: give --device cpu"
    elif not isinstance(error, QuantFaceError):
        text = f"{type(error).__name__}: {text:.200}"
    return text if text.startswith((str(job.source), str(job.target))) else f"{job.source}: {text}"
