"""Restore the faces of many photos with one model, loaded once; a photo that fails is reported, the rest continue."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from ..faces.detect import FaceDetector
from ..faces.scratches import repair_scratches
from ..io.atomic import remove_stale
from ..io.models import detector_path
from ..io.upscalers import load_upscaler
from ..options import RestoreOptions
from ..restorer import Restorer
from ..restorer.upscaler import Upscaler
from ..runtime.memory import kept_memory
from ..runtime.threads import opencv_threads
from ..types import Face, Pixels, Repair
from .callbacks import PipelineCallbacks, StageProgress
from .jobs import Job, Origin
from .models import Execution, load_for
from .photo_errors import explain
from .restore_file import FileReport, FileRequest, ReadFile, RestoredPage, read_file, restore_pages, write_file

_T = TypeVar("_T")
_CORES = os.cpu_count() or 1
_READERS = min(_CORES, max(2, min(4, _CORES // 2)))  # threads that read photos and detect faces
_AHEAD, _BEHIND = _READERS + 1, 2  # photos in memory before and after the model, beside the one it works on


@dataclass(frozen=True)
class RestoreRequest:
    """Which photos, with which model, and how."""

    jobs: Sequence[Job]
    execution: Execution
    options: RestoreOptions
    aligned: bool = False  # each photo is one aligned crop; no detector is needed
    scratches: bool = False  # scratches, cracks and dust are repaired first, in the whole photo


@dataclass(frozen=True)
class PhotoResult:
    """The outcome of one photo: a report, or an error."""

    source: Path | str  # a string, its URI, where it is in a store
    report: FileReport | None
    error: str  # one line with the photo's name; empty = none
    seconds: float
    origin: Origin | None = None  # of the photo; None = its job does not identify it, or it could not be fetched

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        outcome = self.report.to_dict() if self.report else {"error": self.error}
        return {"source": str(self.source), **outcome, "seconds": round(self.seconds, 3)}


def restore(request: RestoreRequest, callbacks: PipelineCallbacks | None = None) -> Iterator[PhotoResult]:
    """Yield each photo's result in order, as it is finished.

    While the model works on one photo, the next ones are read and searched for faces, and the previous ones are
    written: the same results in less time. How many are in memory does not depend on how many there are. Raises
    QuantFaceError before the first result; afterwards errors are results.
    """
    execution = request.execution
    upscaler = load_upscaler(execution.upscaler, execution.device) if execution.upscaler else None
    yield from restore_with(load_for(execution), request, callbacks, upscaler)


def restore_with(
    restorer: Restorer,
    request: RestoreRequest,
    callbacks: PipelineCallbacks | None = None,
    upscaler: Upscaler | None = None,
) -> Iterator[PhotoResult]:
    """`restore` with models that are already loaded, as `load_for` and `load_upscaler` would load them."""
    callbacks = callbacks or PipelineCallbacks()
    for target in {job.target.parent: job.target for job in request.jobs}.values():
        remove_stale(target)
    detect, repair = None if request.aligned else _Detectors(), _Repairer() if request.scratches else None
    total = len(request.jobs)
    # A reader detects faces with its share of the cores; freed memory is kept from one photo to the next.
    with opencv_threads(_CORES // _READERS), kept_memory(), _Pool(_READERS) as readers, _Pool(1) as writer:
        requests = (FileRequest(job, restorer, detect, request.options, upscaler, repair) for job in request.jobs)
        photos = (_Photo(request, readers) for request in requests)
        writing: deque[_Photo] = deque()
        try:
            for number, photo in enumerate(_read_ahead(photos)):
                place = StageProgress("restore", number, total, "photo", photo.job.source.name)
                callbacks.progress(place)
                photo.restore(callbacks, writer, place)
                writing.append(photo)
                yield from _written(writing, _BEHIND)
        except GeneratorExit:
            raise
        except BaseException as error:  # an interrupt: what is restored already is written and reported
            yield from _written(writing)
            if isinstance(error, _Cancelled):
                raise error.error from error.error.__cause__
            raise
        yield from _written(writing)
    callbacks.progress(StageProgress("restore", total, total, "photo"))


def _read_ahead(photos: Iterator[_Photo]) -> Iterator[_Photo]:
    """Yield the photos in order; each is read from when it is taken, which is some photos before it is yielded."""
    reading = deque(islice(photos, _AHEAD))
    while reading:
        photo = reading.popleft()
        reading.extend(islice(photos, 1))
        yield photo


def _written(writing: deque[_Photo], behind: int = 0) -> Iterator[PhotoResult]:
    """Take the first photos out while they are written or more than `behind` are waiting; yield their results."""
    while writing and (len(writing) > behind or writing[0].is_written()):
        yield writing.popleft().result()


class _Cancelled(BaseException):
    """Carries what the caller's `check_cancelled` raised past a photo: it is not an error of that photo."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class _Photo:
    """One photo on its way through reading, restoring and writing; its first error is its result."""

    def __init__(self, request: FileRequest, readers: _Pool) -> None:
        self.job, self._request = request.job, request
        self._seconds, self._error = 0.0, ""
        self._origin: Origin | None = None
        self._read = readers.submit(self._timed, self._fetch_and_read)
        self._written: Future[FileReport | None] | None = None

    def restore(self, callbacks: PipelineCallbacks, writer: _Pool, place: StageProgress) -> None:
        """Run the model, on the caller's thread; then queue the photo for writing. Raises _Cancelled.

        `place` is the photo's among all, to whose report tiles that are enlarged are added, as they may take minutes.
        """

        def check() -> None:
            try:
                callbacks.check()
            except BaseException as error:
                raise _Cancelled(error) from None

        def progress(step: StageProgress) -> None:
            if step.unit == "tile":
                done = f"{place.detail}: {step.done} of {step.total} tiles enlarged"
                callbacks.progress(replace(place, detail=done))

        within = PipelineCallbacks(
            progress, notify=callbacks.notify, check_cancelled=callbacks.check_cancelled and check
        )
        read = self._read.result()
        results = read and self._timed(restore_pages, self._request, read, within)
        if read and results:
            self._written = writer.submit(self._timed, self._write_and_deliver, read, results)

    def is_written(self) -> bool:
        return self._written is None or self._written.done()

    def result(self) -> PhotoResult:
        report = self._written.result() if self._written else None
        return PhotoResult(self.job.source, report, self._error, self._seconds, self._origin)

    def _fetch_and_read(self) -> ReadFile:
        self._origin = self.job.fetch()
        return read_file(self._request)

    def _write_and_deliver(self, read: ReadFile, restored: Sequence[RestoredPage]) -> FileReport:
        report = write_file(self._request, read, restored)
        self.job.deliver()
        return report

    def _timed(self, work: Callable[..., _T], *arguments: Any) -> _T | None:
        began = time.perf_counter()
        try:
            return work(*arguments)
        except Exception as error:  # decoders' and plugins' too: it is this photo's, and the rest continue
            self._error = explain(self.job, error)
            return None
        finally:
            self._seconds += time.perf_counter() - began


class _Pool(ThreadPoolExecutor):
    """Threads whose queued work is dropped on exit."""

    def __exit__(self, *_: object) -> None:
        self.shutdown(wait=True, cancel_futures=True)


class _Detectors:
    """The bundled detector, one per thread: those that share one take turns."""

    def __init__(self) -> None:
        self._path, self._own = detector_path(), threading.local()

    def __call__(self, pixels: Pixels) -> Sequence[Face]:
        if not hasattr(self._own, "detector"):
            self._own.detector = FaceDetector(self._path)
        found: Sequence[Face] = self._own.detector(pixels)
        return found


class _Repairer:
    """Repairs one photo at a time: each takes all cores."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def __call__(self, pixels: Pixels) -> Repair:
        with self._turn:
            return repair_scratches(pixels)
