"""Results of `quantface restore` as they come: printed, counted, and put into a report."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from ..options import RestoreOptions
from .message import tell
from .progress import ProgressBars
from .run_report import describe_execution, run_report

if TYPE_CHECKING:
    from ..pipelines.callbacks import PipelineCallbacks
    from ..pipelines.models import Execution
    from ..pipelines.restore import PhotoResult
    from ..pipelines.restore_file import FaceReport


def report_results(
    start: Callable[[PipelineCallbacks], tuple[Execution, Iterator[PhotoResult]]],
    count: int,
    skipped: Mapping[str, int],
    summary: str,
    arguments: argparse.Namespace,
    options: RestoreOptions,
) -> int:
    """Restore so many photos; a photo that fails is reported and the rest continue. Returns the exit status."""
    from ..pipelines.models import resolve

    counts: Counter[str] = Counter()
    with run_report(arguments, options) as report, ProgressBars() as callbacks:
        report |= {"photos": [], "skipped": dict(skipped)}
        execution, results = start(callbacks)
        if arguments.json:  # Ray's workers choose for themselves
            report |= describe_execution(execution if arguments.ray else resolve(execution))
        for result in results:
            report["photos"] += [result.to_dict()] if arguments.json else []  # an archive's do not fit into memory
            counts.update(_counts(result))
            for line in _remarks(result):
                callbacks.notify(line)
    written = f"wrote {counts['written']} of {count} photos to {arguments.output}"
    tell(f"{written}, {counts['changed']} with restored faces")
    if counts["unchanged faces"] and options.strength == "auto":
        kept = f"faces left as they were: {counts['unchanged faces']}"
        small = counts["unchanged small faces"] if options.upscale == 1 else 0
        enlarged = f"--upscale 4 shows more of small ones ({small}), " if small else ""
        tell(f"quantface: {kept}; {enlarged}--strength 1 restores them too")
    if summary:
        tell(f"quantface: {summary}")
    if counts["failed"]:
        tell(f"quantface: {counts['failed']} of {count} photos failed")
    return 1 if counts["failed"] else 0


def _counts(result: PhotoResult) -> dict[str, int]:
    """What a photo adds to the counts of photos, and of chosen faces that look as they did."""
    from ..stages.outcome import SMALL_FACE

    pages = result.report.pages if result.report else ()
    faces = [(face, page.faces[face.position].size) for page in pages for face in page.restored]
    kept = [size for face, size in faces if face.is_unchanged]
    return {
        "written": int(not result.error),
        "failed": int(bool(result.error)),
        "changed": int(len(kept) < len(faces)),
        "unchanged faces": len(kept),
        "unchanged small faces": sum(size < SMALL_FACE for size in kept),
    }


def _remarks(result: PhotoResult) -> list[str]:
    """Lines for the user: what went wrong, and faces that were chosen and are as they were."""
    if result.report is None:
        return [f"error: {result.error}"]
    page = result.report.pages[0]
    return [
        *(f"warning: {warning}" for warning in result.report.warnings),
        *(f"{result.source}: {line}" for line in _repairs(page.repaired)),
        *(f"{result.source}: {line}" for line in _kept_faces(page.restored)),
    ]


def _repairs(share: float | None) -> Iterator[str]:
    """How much of a photo was inpainted where scratches were."""
    if share is not None:
        yield f"scratches repaired, {share:.1%} of the photo" if share else "no scratches found"


def _kept_faces(restored: Iterable[FaceReport]) -> Iterator[str]:
    """What became of the faces that are as they were; one line for neighbours of the same outcome, as in a crowd."""
    kept = enumerate(face for face in restored if face.is_unchanged)
    for (outcome, _), group in groupby(kept, lambda item: (item[1].outcome, item[1].position - item[0])):
        first, *others = (face.position for _, face in group)
        yield f"faces {first} to {others[-1]}, each {outcome}" if others else f"face {first} {outcome}"
