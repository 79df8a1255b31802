"""Results of `quantface restore` as they come: printed, counted, and put into a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from ..options import RestoreOptions
from .progress import ProgressBars
from .run_report import describe_execution, run_report

if TYPE_CHECKING:
    from ..pipelines.callbacks import PipelineCallbacks
    from ..pipelines.models import Execution
    from ..pipelines.restore import PhotoResult


def report_results(
    start: Callable[[PipelineCallbacks], tuple[Execution, Iterator[PhotoResult]]],
    count: int,
    skipped: Mapping[str, int],
    summary: str,
    arguments: argparse.Namespace,
    options: RestoreOptions,
) -> int:
    """Restore so many photos; a photo that fails is reported and the rest continue. Returns the exit status."""
    restored, failed = 0, 0
    with run_report(arguments, options) as report, ProgressBars() as callbacks:
        report |= {"photos": [], "skipped": dict(skipped)}
        execution, results = start(callbacks)
        report |= describe_execution(execution) if arguments.json else {}
        for result in results:
            report["photos"] += [result.to_dict()] if arguments.json else []  # an archive's do not fit into memory
            restored += not result.error
            failed += bool(result.error)
            for line in _remarks(result):
                callbacks.notify(line)
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
