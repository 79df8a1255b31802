"""`quantface restore --ray`: photos from any store, by workers on a Ray cluster's machines or on this one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..io.stores import is_uri, suffix
from ..io.video.info import VIDEO_SUFFIXES
from ..options import RestoreOptions
from .devices import execution_of
from .outputs import check_report
from .results import report_results

if TYPE_CHECKING:
    from ..pipelines.bulk_plan import BulkPlan
    from ..pipelines.callbacks import PipelineCallbacks
    from ..pipelines.models import Execution
    from ..pipelines.restore import PhotoResult


def add_options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Add `--ray` and the options that need it; returns those."""
    group = parser.add_argument_group("many machines", "--ray ADDRESS s3://bucket/photos --output s3://bucket/restored")
    add = group.add_argument
    add("--ray", metavar="ADDRESS", help="a Ray cluster's host:port, auto, or local = this machine (needs ray[data])")
    return [
        add("--actors", type=_positive, metavar="N", help="workers, each with the model in memory (one per machine)"),
        add(
            "--gpus", type=_share, default=0.0, metavar="SHARE", help="share of a GPU per worker, such as 0.5 (0 = CPU)"
        ),
        add("--column", default="path", help="column of photo paths in tables (.parquet, .csv, .jsonl) (path)"),
    ]


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _share(text: str) -> float:
    """Ray's units: whole GPUs, or a part of one."""
    with suppress(ValueError):
        share = float(text)
        if 0 <= share <= 1 or (share > 1 and share.is_integer()):
            return share
    raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1, nor a whole number of GPUs")


def check_local(arguments: argparse.Namespace) -> None:
    """Raise UsageError for a store's URI, which needs --ray."""
    names = [name for name in (*arguments.photos, arguments.output) if is_uri(name)]
    if names:
        raise UsageError(f"{names[0]}: stores are read and written with --ray, such as --ray local")


def run(arguments: argparse.Namespace, options: RestoreOptions) -> int:
    """Restore the photos. Returns the exit status."""
    import torch

    from ..io.photos import FORMATS
    from ..pipelines.bulk import BulkRequest, check_installed, restore_bulk
    from ..pipelines.bulk_plan import plan_bulk
    from ..pipelines.jobs import skipped_in_words
    from ..pipelines.restore import RestoreRequest
    from ..runtime.device import choose_device

    if arguments.device not in ("auto", "cpu") and not (arguments.device == "cuda" and arguments.gpus):
        raise UsageError("with --ray, --gpus SHARE says how much of a GPU each worker gets")
    if arguments.device == "cpu" and arguments.gpus:
        raise UsageError("--gpus: not with --device cpu, by which workers compute on the CPU")
    if any(suffix(name) in VIDEO_SUFFIXES for name in arguments.photos):
        raise UsageError("--ray is for photos: restore a film by a command without it")
    check_installed()
    output = str(arguments.output)
    suffixes = FORMATS.get(arguments.format, ())
    plan = plan_bulk(
        arguments.photos, output, arguments.recursive, arguments.compare, arguments.column, suffixes=suffixes
    )
    check_report(arguments.json, chain(map(Path, (*arguments.photos, arguments.model)), _files(plan)))

    def start(callbacks: PipelineCallbacks) -> tuple[Execution, Iterator[PhotoResult]]:
        # A missing model is built here, where there may be no GPU though the workers have one.
        own = choose_device("cpu" if arguments.device == "cpu" else "auto")
        workers = torch.device("cuda" if arguments.gpus else "cpu")
        execution = replace(execution_of(arguments, own, callbacks), device=workers)
        request = RestoreRequest((), execution, options, arguments.aligned, arguments.scratches)
        bulk = BulkRequest(plan, request, arguments.ray, arguments.actors, arguments.gpus, arguments.skip_existing)
        return execution, restore_bulk(bulk, callbacks)

    summary = skipped_in_words(plan.skipped)
    return report_results(start, len(plan.photos), plan.skipped, summary, arguments, options)


def _files(plan: BulkPlan) -> Iterator[Path]:
    """What the run reads and makes on this machine's disks."""
    for photo in plan.photos:
        results = (plan.output / name for name in (photo.name, photo.compare) if name)
        yield from (Path(place.path) for place in (plan.source(photo), *results) if place.is_local)


def output_place(text: str) -> Path | str:
    """An --output: a path, or a store's URI."""
    return text if is_uri(text) else Path(text)
