"""What each worker of a bulk run does: load the model once, and restore a few photos of a store at a time."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from .. import __version__
from ..errors import QuantFaceError
from ..io.checksum import known_sha256
from ..io.stores import Place, Stamp, read, stamp, write
from ..runtime.threads import compute_by
from .bulk_plan import BulkPhoto, BulkPlan
from .callbacks import PipelineCallbacks
from .jobs import Job
from .restore import PhotoResult, RestoreRequest, ready, restore_with

_TRIES = 2  # times that a photo is begun by itself after a worker was lost with it among others


@dataclass(frozen=True)
class BulkTask:
    """What every worker is sent."""

    plan: BulkPlan  # without its photos
    request: RestoreRequest  # without jobs
    model_sha256: str
    model: Any = None  # a reference to the model file's bytes in Ray's store; None = workers share the driver's disk
    version: str = __version__


@dataclass(frozen=True)
class Done:
    """A photo's way back to the driver."""

    photo: BulkPhoto
    result: PhotoResult
    stamp: Stamp  # of the photo as it was read
    digest: str  # its SHA-256


class Attempts:
    """Counts, beside the workers, how often a piece of work was begun: a worker that is lost cannot."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def begin(self, name: str) -> int:
        """How often it was begun, this time included."""
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts[name]

    def end(self, name: str) -> None:
        """It came to an end: whatever else its worker is lost by, it was not this."""
        self._counts.pop(name, None)


class Worker:
    """Ray keeps one a process, and starts a lost one anew, with the work it had."""

    def __init__(self, task: BulkTask, attempts: Any) -> None:
        """Load the model. Raises QuantFaceError."""
        if task.version != __version__:
            raise QuantFaceError(f"a worker has quantface {__version__}, the driver {task.version}: install the same")
        self._task, self._attempts = task, attempts
        request = task.request
        compute_by(request.threads or 1)
        self._folder = tempfile.TemporaryDirectory(prefix="quantface-")
        model = self._model(request.model)
        self._request = replace(request, model=model)
        self._restorer = ready(model, request.device, request.backend, request.precision, request.low_memory)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """A `BulkPhoto` in each row, a `Done` in each row back, pickled."""
        # What Ray carries between its own processes is pickled anyway; no file is read so.
        photos: list[BulkPhoto] = [pickle.loads(row) for row in batch["photo"]]
        if self._begun(f"{photos[0].name}, together") == 1:
            done = list(self._restored(photos))
        else:  # a worker was lost: by which photo shows when each is alone
            done = [one for photo in photos for one in self._restored_alone(photo)]
        return {"done": [pickle.dumps(one) for one in done]}

    def _restored_alone(self, photo: BulkPhoto) -> Iterator[Done]:
        if self._begun(photo.name) <= _TRIES:
            yield from self._restored([photo])
            self._ended(photo.name)
        else:
            reason = f"{photo.shown}: its worker was lost {_TRIES} times, by too little memory or a crash"
            yield Done(photo, PhotoResult(photo.shown, None, reason, 0.0), photo.stamp or Stamp(0, 0), "")

    def _restored(self, photos: Sequence[BulkPhoto]) -> Iterator[Done]:
        with tempfile.TemporaryDirectory(dir=self._folder.name) as staging:
            jobs = [_StagedJob.of(photo, self._task.plan, Path(staging) / str(i)) for i, photo in enumerate(photos)]
            results = restore_with(self._restorer, replace(self._request, jobs=jobs), PipelineCallbacks())
            for job, result in zip(jobs, results, strict=True):
                read = job.read
                yield Done(job.photo, job.in_its_store(result), read.get("stamp", Stamp(0, 0)), read.get("digest", ""))

    def _begun(self, name: str) -> int:
        import ray

        return int(ray.get(self._attempts.begin.remote(name)))

    def _ended(self, name: str) -> None:
        import ray

        ray.get(self._attempts.end.remote(name))  # waited for, so that it counts before the next photo begins

    def _model(self, path: Path) -> Path:
        """The model's file: where the driver has it, or else a copy."""
        if self._task.model is None or (path.is_file() and known_sha256(path) == self._task.model_sha256):
            return path
        import ray

        copy = Path(self._folder.name) / path.name
        copy.write_bytes(ray.get(self._task.model))
        return copy


@dataclass(frozen=True)
class _StagedJob(Job):
    """A photo that is fetched from its store into a folder, and whose results go from there to theirs."""

    photo: BulkPhoto
    origin: Place
    output: Place
    read: dict[str, Any]  # the stamp and digest of what was read

    @classmethod
    def of(cls, photo: BulkPhoto, plan: BulkPlan, folder: Path) -> _StagedJob:
        (folder / "out").mkdir(parents=True)
        source = folder / PurePosixPath(photo.path).name
        target = folder / "out" / PurePosixPath(photo.name).name
        compare = folder / "out" / PurePosixPath(photo.compare).name if photo.compare else None
        return cls(source, target, compare, photo, plan.source(photo), plan.output, {})

    def fetch(self) -> None:
        found = self.photo.stamp or stamp(self.origin)  # first: a photo that changes while it is read is done again
        content = read(self.origin)
        self.read.update(stamp=found, digest=hashlib.sha256(content).hexdigest())
        self.source.write_bytes(content)

    def deliver(self) -> None:
        for path, name in self._written():
            write(self.output / name, path.read_bytes())
        for path in (self.source, *(path for path, _ in self._written())):
            path.unlink()

    def in_its_store(self, result: PhotoResult) -> PhotoResult:
        """The result in the user's words, for whom there is no such folder."""
        words = {str(path): (self.output / name).shown for path, name in self._written()}
        words |= {str(self.source): self.photo.shown}

        def told(text: str) -> str:
            for path, shown in words.items():
                text = text.replace(path, shown)
            return text

        report = result.report and replace(
            result.report,
            output=words[str(self.target)],
            compare=words[str(self.compare)] if self.compare else None,
            warnings=tuple(map(told, result.report.warnings)),
        )
        return PhotoResult(self.photo.shown, report, told(result.error), result.seconds)

    def _written(self) -> list[tuple[Path, str]]:
        return [(self.target, self.photo.name), *([(self.compare, self.photo.compare)] if self.compare else [])]
