"""Restore photos of any store on a Ray cluster, or on this machine, scheduled by Ray Data."""

from __future__ import annotations

import logging
import math
import os
import pickle
import posixpath
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import QuantFaceError, UsageError
from ..io.atomic import remove_stale
from ..io.checksum import sha256
from ..io.manifest import Manifest
from ..io.stores import GONE, Place, files_below, read, stamp
from ..requirements import install_command
from .attempts import Attempts
from .bulk_manifest import open_manifest
from .bulk_plan import BulkPhoto, BulkPlan
from .bulk_worker import BulkTask, Done, Worker, failed
from .callbacks import PipelineCallbacks, StageProgress
from .done import is_done, is_foreign, keep_foreign, record_of, settings_key, settings_of
from .restore import PhotoResult, RestoreRequest

_TOGETHER = 16  # photos sent to a worker at once, which it reads, restores and writes in parallel
_SHARES = 4  # batches per worker, at least, so that all finish at about the same time


@dataclass(frozen=True)
class BulkRequest:
    """Which photos, how they are restored, and by how many workers."""

    plan: BulkPlan
    request: RestoreRequest  # jobs come from the plan; threads are per worker, None = its share of a machine
    address: str = "local"  # of a cluster (host:port, auto); local = this machine alone
    actors: int | None = None  # workers; None = one per machine
    gpus: float = 0.0  # GPUs per worker, which may be a fraction; 0 = CPU only
    skip_existing: bool = False  # skip what the output's manifest records as done with these settings


def restore_bulk(request: BulkRequest, callbacks: PipelineCallbacks | None = None) -> Iterator[PhotoResult]:
    """Yield each photo's result once, as it is finished; the output's manifest records it.

    A worker that is lost is replaced, and its photos go to another; a photo that keeps taking its worker down is an
    error. Raises UsageError for a cluster or output that does not answer, or a manifest that is not QuantFace's;
    QuantFaceError when no worker starts; WriteError.
    """
    callbacks = callbacks or PipelineCallbacks()
    with _cluster(request.address), open_manifest(request.plan.output) as manifest:
        actors, threads = _workers(request)
        execution = replace(request.request.execution, threads=threads)
        asked = replace(request.request, execution=execution, jobs=())
        settings = settings_of(execution, asked.options, asked.aligned, asked.scratches)
        key = settings_key(settings)
        photos = request.plan.photos
        if request.skip_existing:
            photos = _pending(request.plan, manifest, key)
            if len(photos) < len(request.plan.photos):
                before = len(request.plan.photos) - len(photos)
                callbacks.notify(f"{before} of {len(request.plan.photos)} photos are done already")
        if not photos:
            return
        callbacks.notify(
            f"workers: {actors}, threads of each: {threads}; one process with as many threads writes the same bytes"
        )
        manifest.add({"settings": key, "means": settings})
        _remove_stale(request.plan)
        waiting = {photo.name: photo for photo in photos}
        for done in _run_workers(replace(request, request=asked, actors=actors), photos):
            if waiting.pop(done.photo.name, None) is None:
                continue  # reported already
            manifest.add(record_of(done.result, done.photo.name, key))
            finished = len(photos) - len(waiting)
            callbacks.progress(StageProgress("restore", finished, len(photos), "photo", done.photo.name))
            yield done.result
        for photo in waiting.values():
            result = failed(photo, "Ray returned nothing for it")
            manifest.add(record_of(result, photo.name, key))
            yield result


def _run_workers(request: BulkRequest, photos: list[BulkPhoto]) -> Iterator[Done]:
    import ray
    import ray.data

    actors, execution = request.actors or 1, request.request.execution
    model = None if request.address == "local" else ray.put(execution.model.read_bytes())
    task = BulkTask(replace(request.plan, photos=[]), request.request, sha256(execution.model), model)
    attempts = ray.remote(num_cpus=0)(Attempts).remote()
    together = max(1, min(_TOGETHER, len(photos) // (_SHARES * actors)))
    rows = [{"photo": pickle.dumps(photo)} for photo in photos]
    photo_rows = ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / together))
    finished = photo_rows.map_batches(
        Worker,
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
        fn_constructor_args=(task, attempts),
        num_cpus=execution.threads or 1,
        num_gpus=request.gpus or None,
    )
    finished.context.enable_progress_bars = False
    try:
        for row in finished.iter_rows():
            yield pickle.loads(row["done"])
    except ray.exceptions.RayError as error:
        raise QuantFaceError(f"Ray: {_innermost_cause(error)}") from error


def check_installed() -> None:
    """Raise UsageError when Ray is not installed."""
    try:
        import pyarrow  # noqa: F401
        import ray.data  # noqa: F401
    except ImportError:
        command = install_command('"ray[data]"')
        raise UsageError(f"this needs Ray: {command}") from None


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Start or join Ray inside the context, unless the caller already has. Raises UsageError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    check_installed()
    import ray

    if ray.is_initialized():
        yield
        return
    _check_address(address)
    logging.getLogger("ray").setLevel(logging.ERROR)
    options = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(f"Ray address {address}: no cluster there ({_innermost_cause(error)})") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise UsageError for an address where nothing answers: Ray would try for minutes, then end the process."""
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"Ray address {address}: give local, auto, or a cluster's host:port")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"Ray address {address}: nothing answers there ({error})") from None


def _workers(request: BulkRequest) -> tuple[int, int]:
    """The number of workers and the threads of each, so that those on one machine share its CPUs.

    Raises UsageError for more threads or GPUs per worker than a machine has, for which Ray would wait for ever.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not machines:
        raise UsageError(f"Ray address {request.address}: the cluster has no CPU available")
    if request.gpus and not any(resources.get("GPU") for resources in machines):
        raise UsageError(f"gpus {request.gpus:g}: the cluster has no GPU")
    threads, cpus = request.request.execution.threads, int(max(resources["CPU"] for resources in machines))
    if threads and threads > cpus:
        raise UsageError(f"threads {threads}: the largest machine of the cluster has {cpus} CPUs")
    gpus = max(resources.get("GPU", 0) for resources in machines)
    if request.gpus > gpus:
        raise UsageError(f"gpus {request.gpus:g}: the largest machine of the cluster has {gpus:g}")
    actors = request.actors or len(machines)
    each = math.ceil(actors / len(machines))
    share = int(min(resources["CPU"] for resources in machines)) // each
    return actors, threads or max(1, share)


def _pending(plan: BulkPlan, manifest: Manifest, key: str) -> list[BulkPhoto]:
    """The photos still to be done; results that were there without a manifest are left, as by `restore_archive`."""
    there = {name for name, _ in files_below(plan.output, recursive=True)}
    keep_foreign(manifest, (photo.name for photo in plan.photos if photo.name in there))

    def is_pending(photo: BulkPhoto) -> bool:
        known = manifest.get(photo.name)
        if known is None or photo.name not in there:
            return True
        if is_foreign(known):
            return False
        if photo.compare and photo.compare not in there:
            return True
        source = plan.source(photo)
        found = photo.stamp or stamp(source)
        return found == GONE or not is_done(known, photo.shown, key, found, lambda: _digest(source))

    return [photo for photo in plan.photos if is_pending(photo)]


def _remove_stale(plan: BulkPlan) -> None:
    """Remove what killed workers left half-written in the output's folders, if they are on this machine."""
    if plan.output.is_local:
        for name in {posixpath.dirname(photo.name): photo.name for photo in plan.photos}.values():
            remove_stale(Path((plan.output / name).path))


def _digest(photo: Place) -> str:
    import hashlib

    return hashlib.sha256(read(photo)).hexdigest()


def _innermost_cause(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while isinstance(cause := getattr(error, "cause", None) or error.__cause__, BaseException):
        error = cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
