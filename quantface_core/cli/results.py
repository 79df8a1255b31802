"""Results of `quantface restore` as they come: told to the user, counted, and written to a report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..io.atomic import atomic_path
from ..types import RestoreOptions
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
    """Do the work on so many photos; a photo that fails is told and the rest goes on. Returns the exit status."""
    results: list[PhotoResult] = []  # for the report alone: an archive's do not fit into memory
    failed, finished = 0, False
    try:
        with ProgressBars() as callbacks:
            for result in work(callbacks):
                results += [result] if arguments.json else []
                failed += bool(result.error)
                for line in _remarks(result):
                    callbacks.notify(line)
        finished = True
    finally:  # whatever stopped it, an interrupt too
        if arguments.json:
            report = {"quantface": __version__, "model": arguments.model, "options": asdict(options)}
            report |= {"photos": [result.to_dict() for result in results]}
            _write_report({**report, "skipped": dict(skipped), "finished": finished}, arguments.json)
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
    left = [(face, words) for face, words in zip(page.restored, page.done, strict=True) if words.startswith("left")]
    return [
        *(f"warning: {warning}" for warning in result.report.warnings),
        *(f"{result.source}: face {face} {words}" for face, words in left),
    ]


def _write_report(report: dict[str, Any], path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
