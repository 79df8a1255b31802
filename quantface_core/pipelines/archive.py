"""Restore an archive: what is done already, of the same photo with the same settings, is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..io.checksum import sha256
from ..io.manifest import Manifest
from .callbacks import PipelineCallbacks
from .jobs import Job
from .restore import PhotoResult, RestoreRequest, restore

MANIFEST = "manifest.jsonl"


def restore_archive(
    request: RestoreRequest, folder: Path, callbacks: PipelineCallbacks | None = None
) -> Iterator[PhotoResult]:
    """`restore` of the photos that `folder`'s manifest does not know as done; each is told in it once it is written.

    Where there is no manifest, results that lie in the folder are left as they are. Raises as `restore` does, and
    WriteError.
    """
    callbacks = callbacks or PipelineCallbacks()
    manifest = Manifest(folder / MANIFEST)
    try:
        settings = _settings(request)
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        foreign = len(manifest) == 0
        jobs = [job for job in request.jobs if not _is_done(job, folder, manifest, key, foreign)]
        if len(jobs) < len(request.jobs):
            callbacks.notify(f"{len(request.jobs) - len(jobs)} of {len(request.jobs)} photos are done already")
        if not jobs:
            return
        manifest.add({"settings": key, "means": settings})
        places = {job.source: job for job in jobs}
        for result in restore(replace(request, jobs=jobs), callbacks):
            manifest.add(_record(result, places[result.source], folder, key))
            yield result
    finally:
        manifest.close()


def _settings(request: RestoreRequest) -> dict[str, Any]:
    """All that a result depends on, beside its photo."""
    return {
        "quantface": __version__,
        "model": {"name": request.model.stem, "sha256": sha256(request.model)},
        "options": asdict(request.options),
        "device": request.device.type,
        "backend": request.backend,
        "precision": request.precision,
        "aligned": request.aligned,
        "low_memory": request.low_memory,
    }


def _is_done(job: Job, folder: Path, manifest: Manifest, key: str, foreign: bool) -> bool:
    if not job.target.exists() or (job.compare and not job.compare.exists()):
        return False
    known = manifest.get(_name(job, folder))
    if known is None:
        return foreign
    if known["error"] or known["settings"] != key:
        return False
    try:
        found = job.source.stat()
    except OSError:
        return False
    if (found.st_size, found.st_mtime_ns) == (known["size"], known["mtime_ns"]):
        return True
    return found.st_size == known["size"] and sha256(job.source) == known["sha256"]


def _record(result: PhotoResult, job: Job, folder: Path, key: str) -> dict[str, Any]:
    record: dict[str, Any] = {"output": _name(job, folder), "source": str(job.source), "settings": key}
    try:
        found = job.source.stat()
        record |= {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": sha256(job.source)}
    except OSError:  # gone; its result tells the rest
        record |= {"size": 0, "mtime_ns": 0, "sha256": ""}
    pages = result.report.pages if result.report else ()
    faces = sum(len(page.faces) for page in pages), sum(len(page.restored) for page in pages)
    times = {"seconds": round(result.seconds, 3)}
    return {**record, "faces": faces[0], "restored": faces[1], **times, "error": result.error}


def _name(job: Job, folder: Path) -> str:
    """What the manifest calls a result: its place in the folder, so that the folder may move."""
    return job.target.relative_to(folder).as_posix()
