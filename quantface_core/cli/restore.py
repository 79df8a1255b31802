"""`quantface restore`: photos in, photos with restored faces out."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..faces.select import ORDERS, parse_positions
from ..io.atomic import check_report
from ..kernels.backend import CHOICES as BACKEND_CHOICES
from ..runtime.threads import wait_passively
from ..types import DEFAULT_RESTORER, PRECISIONS, RestoreOptions
from . import bulk, film
from .devices import add_device_argument, resolve_device
from .results import report_results

if TYPE_CHECKING:
    from ..pipelines.callbacks import PipelineCallbacks
    from ..pipelines.restore import PhotoResult

_MODEL = f"a known model's name, or a file; GFPGAN's, RestoreFormer's and CodeFormer's too ({DEFAULT_RESTORER})"
_FIDELITY = "of CodeFormer: 0 = what looks best, 1 = nearest to the photo (0.5)"
_STRENGTH = "auto = by pixel, what helps; or 0 = the photo as it was, to 1 = restored (auto)"
_PRECISION = "between the integers (auto: bfloat16 for low-bit models where the device has it, else float32)"


def add_parser(commands: Any) -> None:
    defaults = RestoreOptions()
    parser = commands.add_parser("restore", help="restore the faces of photos", description=__doc__)
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="files, folders or patterns")
    add("--recursive", "-r", action="store_true", help="go into folders in folders; results lie alike")
    add("--skip-existing", action="store_true", help="go on with a folder: what is done with these settings stays")
    add(
        "--output",
        "-o",
        type=bulk.output_place,
        default=Path("restored"),
        help="folder, or a file for one photo (restored)",
    )
    add("--model", default=DEFAULT_RESTORER, help=_MODEL)
    add("--faces", type=_faces, default=defaults.faces, help="all, largest, or positions such as 0,2-4 (all)")
    add("--order", choices=ORDERS, default=defaults.order, help="how positions count faces")
    add("--min-size", type=float, default=defaults.min_size, metavar="PIXELS", help="leave smaller faces alone (0)")
    add("--min-confidence", type=float, default=defaults.min_confidence, help="leave less sure faces alone (0.7)")
    add("--strength", type=_strength, default=defaults.strength, help=_STRENGTH)
    add("--fidelity", type=float, help=_FIDELITY)
    add("--feather", type=float, default=defaults.feather, help="how softly faces fade at the rim, 0 to 1 (0.32)")
    add("--color", choices=["none", "adain", "wavelet"], default=defaults.color, help="colours taken from the photo")
    add("--upscale", type=int, choices=[1, 2, 4], default=defaults.upscale, help="enlarge the photo as well (1)")
    add("--aligned", action="store_true", help="each picture is one aligned face; needs no detector")
    add_device_argument(parser)
    add("--backend", choices=BACKEND_CHOICES, default="auto", help="what computes low-bit layers (auto)")
    add("--precision", choices=PRECISIONS, default="auto", help=_PRECISION)
    add("--batch-size", type=int, default=defaults.batch_size, help="faces at once; more take memory (0 = as is quick)")
    add("--low-memory", action="store_true", help="one face at once, one part of the model in memory, read each time")
    add("--threads", type=int, metavar="N", help="threads of the processor to use (as many as it has)")
    add("--seed", type=int, help="sample the latent with this seed; without, its mode is used")
    film.add_options(parser)
    bulk.add_options(parser)
    add("--compare", action="store_true", help="also write before and after side by side, NAME_compare.png")
    add("--json", type=Path, metavar="REPORT", help="write what was found and done to this file")
    parser.set_defaults(run=run)


def _strength(text: str) -> str | float:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, nor a number from 0 to 1") from None


def _faces(text: str) -> str | tuple[int, ...]:
    if text in ("all", "largest"):
        return text
    try:
        return parse_positions(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"all, largest, or {error}") from None


def run(arguments: argparse.Namespace) -> int:
    """Restore every photo; one that fails is reported and the rest goes on. Returns the exit status."""
    if arguments.ray:
        return bulk.run(arguments, _options(arguments))
    bulk.check(arguments)
    if film.is_asked(arguments):
        return film.run(arguments, _options(arguments))
    from ..pipelines.jobs import find_photos, plan_jobs

    found = find_photos(arguments.photos, arguments.recursive, arguments.output)
    jobs = plan_jobs(found, arguments.output, arguments.compare)
    if arguments.skip_existing and jobs[0].target == arguments.output:
        raise UsageError(f"--skip-existing is for a folder of results, and --output {arguments.output} is a file")
    files = (path for job in jobs for path in (job.source, job.target, job.compare))
    check_report(arguments.json, (*files, Path(arguments.model)))
    if len(jobs) > 1:
        wait_passively()  # before torch loads
    options = _options(arguments)
    from ..pipelines.archive import restore_archive
    from ..pipelines.fetch import model_path
    from ..pipelines.restore import RestoreRequest, restore

    def work(callbacks: PipelineCallbacks) -> Iterator[PhotoResult]:
        request = RestoreRequest(
            jobs,
            model_path(arguments.model, callbacks),
            options,
            resolve_device(arguments),
            arguments.backend,
            arguments.precision,
            arguments.aligned,
            arguments.low_memory,
            arguments.threads,
        )
        results_of = partial(restore_archive, folder=arguments.output) if arguments.skip_existing else restore
        return results_of(request, callbacks=callbacks)

    return report_results(work, len(jobs), found.skipped, found.summary(), arguments, options)


def _options(arguments: argparse.Namespace) -> RestoreOptions:
    """Raises UsageError for what makes no sense."""
    # torch and diffusers take seconds to import: --help and a mistyped option do not wait for them.
    from ..stages.restore import check_options

    options = RestoreOptions(**{name: getattr(arguments, name) for name in RestoreOptions.__dataclass_fields__})
    check_options(options)
    if arguments.threads is not None and arguments.threads < 1:
        raise UsageError(f"--threads is at least 1, got {arguments.threads}")
    return replace(options, batch_size=1) if arguments.low_memory else options
