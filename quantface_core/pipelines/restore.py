"""Restore the faces of many photos with one model: loaded once; a photo that fails is reported, the rest goes on."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..errors import QuantFaceError
from ..faces.detect import FaceDetector
from ..io.checkpoint import load_restorer
from ..io.models import detector_path
from ..kernels.dispatch import choose_backend
from ..nn.swap import prepare
from ..restorer import OneStepRestorer, Restorer, RestorerByParts
from ..runtime.memory import kept_memory
from ..runtime.threads import compute_by, opencv_threads
from ..types import Face, Pixels, Restoration, RestoreOptions
from .callbacks import PipelineCallbacks, Progress
from .jobs import Job
from .models import LoadedModel, one_step
from .restore_file import FileReport, FileRequest, ReadFile, read_file, restore_pages, write_file

_T = TypeVar("_T")
_CORES = os.cpu_count() or 1
_READERS = min(_CORES, max(2, min(4, _CORES // 2)))  # threads that read and look for faces
_AHEAD, _BEHIND = _READERS + 1, 2  # photos in memory before and after the model, beside the one it works on


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
    threads: int | None = None  # of the processor, by which a model computes; None = as many as torch takes by itself


@dataclass(frozen=True)
class PhotoResult:
    """What became of one photo: a report, or an error."""

    source: Path | str  # a string where it is in a store: its URI
    report: FileReport | None
    error: str  # one line with the photo's name; empty = none
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        outcome = self.report.to_dict() if self.report else {"error": self.error}
        return {"source": str(self.source), **outcome, "seconds": round(self.seconds, 3)}


def restore(request: RestoreRequest, callbacks: PipelineCallbacks | None = None) -> Iterator[PhotoResult]:
    """Each photo's result, in their order, as it is finished. Raises QuantFaceError before the first; afterwards
    errors are results.

    While the model works on one photo, the next are read and searched, and the last are written: the same results
    in less time. How many are in memory does not depend on how many there are.
    """
    if request.threads:
        compute_by(request.threads)
    restorer = ready(request.model, request.device, request.backend, request.precision, request.low_memory)
    yield from restore_with(restorer, request, callbacks)


def restore_with(
    restorer: Restorer, request: RestoreRequest, callbacks: PipelineCallbacks | None = None
) -> Iterator[PhotoResult]:
    """`restore` by a restorer that is loaded already, as the request's model would be by `ready`."""
    callbacks = callbacks or PipelineCallbacks()
    detect = None if request.aligned else _Detectors()
    cancelled: list[BaseException] = []

    def check() -> None:
        try:
            callbacks.check()
        except BaseException as error:
            cancelled.append(error)
            raise

    within = PipelineCallbacks(notify=callbacks.notify, check_cancelled=callbacks.check_cancelled and check)
    total = len(request.jobs)
    # A reader finds faces by its share of the cores; from one photo to the next, freed memory stays here.
    with opencv_threads(_CORES // _READERS), kept_memory(), _Pool(_READERS) as readers, _Pool(1) as writer:
        coming = (_Photo(FileRequest(job, restorer, detect, request.options), readers) for job in request.jobs)
        reading = deque(islice(coming, _AHEAD))
        writing: deque[_Photo] = deque()
        number = 0
        try:
            while reading:
                photo = reading.popleft()
                callbacks.progress(Progress("restore", number, total, "photo", photo.job.source.name))
                reading.extend(islice(coming, 1))
                photo.restore(within, writer)
                if cancelled:  # no error of this photo's
                    raise cancelled[0]
                writing.append(photo)
                number += 1
                while writing and (len(writing) > _BEHIND or writing[0].is_written()):
                    yield writing.popleft().result()
        except GeneratorExit:
            raise
        except BaseException:  # an interrupt: what is restored already is written and told
            while writing:
                yield writing.popleft().result()
            raise
        while writing:
            yield writing.popleft().result()
    callbacks.progress(Progress("restore", total, total, "photo"))


class _Photo:
    """One photo's way through reading, restoring and writing; the first error on it is its result."""

    def __init__(self, request: FileRequest, readers: _Pool) -> None:
        self.job, self._request = request.job, request
        self._seconds, self._error = 0.0, ""
        self._read = readers.submit(self._timed, _fetched, request.job, request.detector)
        self._written: Future[FileReport | None] | None = None

    def restore(self, callbacks: PipelineCallbacks, writer: _Pool) -> None:
        """All that the model does, here; then it goes on to be written."""
        read = self._read.result()
        results = read and self._timed(restore_pages, self._request, read, callbacks)
        if read and results:
            self._written = writer.submit(self._timed, _delivered, self._request, read, results)

    def is_written(self) -> bool:
        return self._written is None or self._written.done()

    def result(self) -> PhotoResult:
        report = self._written.result() if self._written else None
        return PhotoResult(self.job.source, report, self._error, self._seconds)

    def _timed(self, work: Callable[..., _T], *arguments: Any) -> _T | None:
        began = time.perf_counter()
        try:
            return work(*arguments)
        except Exception as error:  # readers' and plugins' too: it is this photo's, and the rest goes on
            self._error = _reason(self.job, error)
            return None
        finally:
            self._seconds += time.perf_counter() - began


def _fetched(job: Job, detector: Callable[[Pixels], Sequence[Face]] | None) -> ReadFile:
    job.fetch()
    return read_file(job, detector)


def _delivered(request: FileRequest, read: ReadFile, results: Sequence[Restoration]) -> FileReport:
    report = write_file(request, read, results)
    request.job.deliver()
    return report


class _Pool(ThreadPoolExecutor):
    """Threads whose waiting work is dropped when the work around them ends."""

    def __exit__(self, *_: object) -> None:
        self.shutdown(wait=True, cancel_futures=True)


class _Detectors:
    """The bundled detector, one a thread, for it cannot be shared."""

    def __init__(self) -> None:
        self._path, self._own = detector_path(), threading.local()

    def __call__(self, pixels: Pixels) -> Sequence[Face]:
        if not hasattr(self._own, "detector"):
            self._own.detector = FaceDetector(self._path)
        found: Sequence[Face] = self._own.detector(pixels)
        return found


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
    empty = load(()).restorer
    if not isinstance(empty, OneStepRestorer):  # of one part, and small
        return load().restorer
    return RestorerByParts(empty.config, device, lambda only: one_step(load(only)))


def _reason(job: Job, error: Exception) -> str:
    """One line with the photo's name."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text:
        text = f"out of memory: {text or 'give the photo smaller, or --low-memory'}"
        text = text if isinstance(error, MemoryError | QuantFaceError) else "out of memory: give --device cpu"
    elif not isinstance(error, QuantFaceError):
        text = f"{type(error).__name__}: {text:.200}"
    return text if text.startswith((str(job.source), str(job.target))) else f"{job.source}: {text}"
