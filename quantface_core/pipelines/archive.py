"""Restore an archive: what is done already, of the same photo with the same settings, is not done again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..io.checksum import sha256
from ..io.manifest import Manifest
from ..io.stores import GONE, Stamp
from .callbacks import PipelineCallbacks
from .done import is_done, is_foreign, keep_foreign, record_of, settings_key, settings_of
from .jobs import Job
from .restore import PhotoResult, RestoreRequest, restore

MANIFEST = "manifest.jsonl"


def restore_archive(
    request: RestoreRequest, folder: Path, callbacks: PipelineCallbacks | None = None
) -> Iterator[PhotoResult]:
    """`restore` of the photos that `folder`'s manifest does not know as done; each is told in it once it is written.

    Where there is no manifest, results that lie in the folder are left as they are, then and ever after. Raises as
    `restore` does, WriteError, and UsageError for a manifest that is not QuantFace's, or in another process's hands.
    """
    callbacks = callbacks or PipelineCallbacks()
    manifest = Manifest(folder / MANIFEST)
    try:
        settings = settings_of(request)
        key = settings_key(settings)
        keep_foreign(manifest, (_name(job, folder) for job in request.jobs if job.target.exists()))
        jobs = [_ArchivedJob.of(job) for job in request.jobs if not _is_done(job, folder, manifest, key)]
        if len(jobs) < len(request.jobs):
            callbacks.notify(f"{len(request.jobs) - len(jobs)} of {len(request.jobs)} photos are done already")
        if not jobs:
            return
        manifest.add({"settings": key, "means": settings})
        places: dict[Path | str, _ArchivedJob] = {job.source: job for job in jobs}
        for result in restore(replace(request, jobs=jobs), callbacks):
            manifest.add(_record(result, places[result.source], folder, key))
            yield result
    finally:
        manifest.close()


@dataclass(frozen=True)
class _ArchivedJob(Job):
    """A photo that is identified as it is read."""

    read: dict[str, Any]  # its stamp and digest then; without the digest where it could not be read

    @classmethod
    def of(cls, job: Job) -> _ArchivedJob:
        return cls(job.source, job.target, job.compare, {})

    def fetch(self) -> None:
        self.read["stamp"] = _stamp(self.source)
        with suppress(ModelError):  # reading the photo fails next, and says so in a photo's words
            self.read["digest"] = sha256(self.source)


def _is_done(job: Job, folder: Path, manifest: Manifest, key: str) -> bool:
    known = manifest.get(_name(job, folder))
    if known is None or not job.target.exists():
        return False
    if is_foreign(known):
        return True
    if job.compare and not job.compare.exists():
        return False
    stamp = _stamp(job.source)
    return stamp != GONE and is_done(known, key, stamp, lambda: sha256(job.source))


def _record(result: PhotoResult, job: _ArchivedJob, folder: Path, key: str) -> dict[str, Any]:
    stamp, digest = job.read["stamp"], job.read.get("digest", "")
    return record_of(result, _name(job, folder), str(job.source), key, stamp, digest)


def _stamp(photo: Path) -> Stamp:
    try:
        found = photo.stat()
    except OSError:  # gone; its result tells the rest
        return GONE
    return Stamp(found.st_size, found.st_mtime_ns)


def _name(job: Job, folder: Path) -> str:
    """What the manifest calls a result: its place in the folder, so that the folder may move."""
    return job.target.relative_to(folder).as_posix()
