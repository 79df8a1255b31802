"""A worker of a bulk run: loads the model once, and restores a few photos of a store at a time."""

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
from ..io.stores import GONE, Place, read, stamp, write
from .bulk_plan import BulkPhoto, BulkPlan
from .jobs import Job, Origin
from .models import load_for
from .restore import PhotoResult, RestoreRequest, restore_with

_TRIES = 2  # attempts at a photo on its own, after a worker was lost with a batch that held it


@dataclass(frozen=True)
class BulkTask:
    """What every worker is sent."""

    plan: BulkPlan  # without its photos
    request: RestoreRequest  # without jobs
    model_sha256: str
    model: Any = None  # the model file's bytes in Ray's object store; None = workers share the driver's disk
    version: str = __version__


@dataclass(frozen=True)
class Done:
    """A finished photo, as sent back to the driver."""

    photo: BulkPhoto
    result: PhotoResult


def failed(photo: BulkPhoto, reason: str) -> PhotoResult:
    """The result of a photo that no worker returned."""
    return PhotoResult(photo.shown, None, f"{photo.shown}: {reason}", 0.0, Origin(photo.stamp or GONE, ""))


class Worker:
    """One per process of Ray's, which restarts a lost one with the work it had."""

    def __init__(self, task: BulkTask, attempts: Any) -> None:
        """Load the model. Raises QuantFaceError."""
        if task.version != __version__:
            raise QuantFaceError(f"worker has quantface {__version__}, driver {task.version}: install the same version")
        self._task, self._attempts = task, attempts
        self._folder = tempfile.TemporaryDirectory(prefix="quantface-")
        execution = task.request.execution
        self._restorer = load_for(replace(execution, model=self._model(execution.model)))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Restore a batch: a pickled `BulkPhoto` in each row, a pickled `Done` in each row back."""
        # Ray pickles what it sends between its own processes anyway; no file is unpickled.
        photos: list[BulkPhoto] = [pickle.loads(row) for row in batch["photo"]]
        if self._begun(f"{photos[0].name}, together") == 1:
            done = list(self._restored(photos))
        else:  # a worker was lost: restoring photos one by one shows which one caused it
            done = [one for photo in photos for one in self._restored_alone(photo)]
        return {"done": [pickle.dumps(one) for one in done]}

    def _restored_alone(self, photo: BulkPhoto) -> Iterator[Done]:
        if self._begun(photo.name) <= _TRIES:
            yield from self._restored([photo])
            self._ended(photo.name)
        else:
            yield Done(photo, failed(photo, f"its worker was lost {_TRIES} times, out of memory or by a crash"))

    def _restored(self, photos: Sequence[BulkPhoto]) -> Iterator[Done]:
        with tempfile.TemporaryDirectory(dir=self._folder.name) as staging:
            jobs = [_StagedJob.of(photo, self._task.plan, Path(staging) / str(i)) for i, photo in enumerate(photos)]
            results = restore_with(self._restorer, replace(self._task.request, jobs=jobs))
            for job, result in zip(jobs, results, strict=True):
                yield Done(job.photo, job.in_its_store(result))

    def _begun(self, name: str) -> int:
        import ray

        return int(ray.get(self._attempts.begin.remote(name)))

    def _ended(self, name: str) -> None:
        import ray

        ray.get(self._attempts.end.remote(name))  # waited for, so that it counts before the next photo begins

    def _model(self, path: Path) -> Path:
        """The model's file: the driver's, where it is here too, or else a copy."""
        if self._task.model is None or (path.is_file() and known_sha256(path) == self._task.model_sha256):
            return path
        import ray

        copy = Path(self._folder.name) / path.name
        copy.write_bytes(ray.get(self._task.model))
        return copy


@dataclass(frozen=True)
class _StagedJob(Job):
    """A photo that is fetched from its store into a local folder, from which its results are sent on."""

    photo: BulkPhoto
    place: Place  # of the photo in its store
    output: Place

    @classmethod
    def of(cls, photo: BulkPhoto, plan: BulkPlan, folder: Path) -> _StagedJob:
        (folder / "out").mkdir(parents=True)
        source = folder / PurePosixPath(photo.path).name
        target = folder / "out" / PurePosixPath(photo.name).name
        compare = folder / "out" / PurePosixPath(photo.compare).name if photo.compare else None
        return cls(source, target, compare, photo, plan.source(photo), plan.output)

    def fetch(self) -> Origin:
        found = self.photo.stamp or stamp(self.place)  # first: a photo that changes while being read is done again
        content = read(self.place)
        self.source.write_bytes(content)
        return Origin(found, hashlib.sha256(content).hexdigest())

    def deliver(self) -> None:
        for path, name in self._written():
            write(self.output / name, path.read_bytes())
        for path in (self.source, *(path for path, _ in self._written())):
            path.unlink()

    def in_its_store(self, result: PhotoResult) -> PhotoResult:
        """The result with the user's own paths: the local folder means nothing to them."""
        words = {str(path): (self.output / name).shown for path, name in self._written()}
        words |= {str(self.source): self.photo.shown}

        def in_store(text: str) -> str:
            for path, shown in words.items():
                text = text.replace(path, shown)
            return text

        report = result.report and replace(
            result.report,
            output=words[str(self.target)],
            compare=words[str(self.compare)] if self.compare else None,
            warnings=tuple(map(in_store, result.report.warnings)),
        )
        return replace(result, source=self.photo.shown, report=report, error=in_store(result.error))

    def _written(self) -> list[tuple[Path, str]]:
        return [(self.target, self.photo.name), *([(self.compare, self.photo.compare)] if self.compare else [])]
