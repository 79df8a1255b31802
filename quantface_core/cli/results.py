"""Results of `quantface restore` as they come: printed, counted, and written to a report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..io.atomic import write_text
from ..options import RestoreOptions
from .progress import ProgressBars

if TYPE_CHECKING:
    from ..pipelines.callbacks import PipelineCallbacks
    from ..pipelines.restore import PhotoResult


def report_results(
    work: Callable[[PipelineCallbacks], Iterator[PhotoResult]],
    count: int,
    skipped: Mapping[str, int],
    summary: str,
    arguments: argparse.Namespace,
    options: RestoreOptions,
) -> int:
    """Do the work on so many photos; a photo that fails is reported and the rest continue. Returns the exit status."""
    results: list[PhotoResult] = []  # for the report alone: an archive's do not fit into memory
    restored, failed, finished = 0, 0, False
    try:
        with ProgressBars() as callbacks:
            for result in work(callbacks):
                results += [result] if arguments.json else []
                restored += not result.error
                failed += bool(result.error)
                for line in _remarks(result):
                    callbacks.notify(line)
        finished = True
    finally:  # whatever stopped it, an interrupt too
        if arguments.json:
            report: dict[str, Any] = {"quantface": __version__, "model": arguments.model, "options": asdict(options)}
            report |= {"photos": [result.to_dict() for result in results], "skipped": dict(skipped)}
            report |= {"finished": finished}
            write_text(arguments.json, json.dumps(report, indent=2) + "\n")
    print(f"restored {restored} of {count} photos into {arguments.output}", file=sys.stderr)
    if summary:
        print(f"quantface: {summary}", file=sys.stderr)
    if failed:
        print(f"quantface: {failed} of {count} photos failed", file=sys.stderr)
    return 1 if failed else 0


def _remarks(result: PhotoResult) -> list[str]:
    """Lines for the user: what went wrong, and faces that were chosen and are as they were."""
    if result.report is None:
        return [f"error: {result.error}"]
    page = result.report.pages[0]
    return [
        *(f"warning: {warning}" for warning in result.report.warnings),
        *(f"{result.source}: face {face.position} {face.outcome}" for face in page.restored if face.is_unchanged),
    ]
