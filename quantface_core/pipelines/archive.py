"""Restore an archive, skipping photos that are already done with the same settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..errors import ModelError
from ..io.checksum import sha256
from ..io.manifest import Manifest
from ..io.stores import GONE, Stamp
from .callbacks import PipelineCallbacks
from .done import is_done, is_foreign, keep_foreign, record_of, settings_key, settings_of
from .jobs import Job, Origin
from .restore import PhotoResult, RestoreRequest, restore

MANIFEST = "manifest.jsonl"


def restore_archive(
    request: RestoreRequest, folder: Path, callbacks: PipelineCallbacks | None = None
) -> Iterator[PhotoResult]:
    """`restore` the photos that the manifest in `folder` does not record as done; each is recorded once it is written.

    Without a manifest, results already in the folder are left as they are, then and in later runs. Raises what
    `restore` raises, WriteError, and UsageError for a manifest that is not QuantFace's or that another process holds.
    """
    callbacks = callbacks or PipelineCallbacks()
    manifest = Manifest(folder / MANIFEST)
    try:
        settings = settings_of(request.execution, request.options, request.aligned, request.scratches)
        key = settings_key(settings)
        keep_foreign(manifest, (_name(job, folder) for job in request.jobs if job.target.exists()))
        pending = [job for job in request.jobs if not _is_done(job, folder, manifest, key)]
        jobs = [_ArchivedJob(job.source, job.target, job.compare) for job in pending]
        if len(jobs) < len(request.jobs):
            callbacks.notify(f"{len(request.jobs) - len(jobs)} of {len(request.jobs)} photos are done already")
        if not jobs:
            return
        manifest.add({"settings": key, "means": settings})
        names: dict[Path | str, str] = {job.source: _name(job, folder) for job in jobs}
        for result in restore(replace(request, jobs=jobs), callbacks):
            manifest.add(record_of(result, names[result.source], key))
            yield result
    finally:
        manifest.close()


class _ArchivedJob(Job):
    """A photo whose content is identified when it is read."""

    def fetch(self) -> Origin:
        stamp, digest = _stamp(self.source), ""
        with suppress(ModelError):  # reading the photo fails next, with a message for photos
            digest = sha256(self.source)
        return Origin(stamp, digest)


def _is_done(job: Job, folder: Path, manifest: Manifest, key: str) -> bool:
    known = manifest.get(_name(job, folder))
    if known is None or not job.target.exists():
        return False
    if is_foreign(known):
        return True
    if job.compare and not job.compare.exists():
        return False
    stamp = _stamp(job.source)
    return stamp != GONE and is_done(known, str(job.source), key, stamp, lambda: sha256(job.source))


def _stamp(photo: Path) -> Stamp:
    try:
        found = photo.stat()
    except OSError:  # gone; its result reports it
        return GONE
    return Stamp(found.st_size, found.st_mtime_ns)


def _name(job: Job, folder: Path) -> str:
    """A result's name in the manifest: its path relative to the folder, so that the folder may move."""
    return job.target.relative_to(folder).as_posix()
