"""`quantface restore`: restore the faces in photos and films."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..kernels.backend import NAMES as BACKENDS
from ..options import COLORS, FACE_ORDERS, UPSCALES, RestoreOptions, check_options, parse_faces
from ..runtime.threads import wait_passively
from ..types import DEFAULT_RESTORER, PRECISIONS
from . import bulk, film
from .devices import MODEL_HELP, add_device_argument, execution_of, resolve_device
from .lean_diffusers import import_lean_diffusers
from .outputs import check_report
from .parsed import parsed
from .results import report_results

if TYPE_CHECKING:
    from ..pipelines.callbacks import PipelineCallbacks
    from ..pipelines.models import Execution
    from ..pipelines.restore import PhotoResult

_FORMATS = ("jpg", "png", "webp", "tif")  # io.photos.FORMATS, which is slow to load
_FIDELITY = "CodeFormer only: 0 = looks best, 1 = nearest to the photo (0.5)"
_STRENGTH = "auto = pixel by pixel, where it helps; or from 0 = the photo as it was to 1 = restored (auto)"
_UPSCALER = "an upscaling network, such as Real-ESRGAN's, that enlarges what is around the faces (Lanczos)"
_SCRATCHES = "first repair scratches, cracks and dust, in the whole photo"
_BACKEND = f"what computes low-bit layers: {', '.join(BACKENDS)}, or one of an installed package (auto)"
_PRECISION = "precision beside the integers (auto: bfloat16 for low-bit models where the device has it, else float32)"


def add_parser(commands: Any) -> None:
    defaults = RestoreOptions()
    parser = commands.add_parser("restore", help="restore the faces in photos and films", description=__doc__)
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="files, folders or patterns")
    of_photos = [
        add("--recursive", "-r", action="store_true", help="include subfolders; results keep the folder structure"),
        add("--skip-existing", action="store_true", help="resume a folder: keep what is done with these settings"),
    ]
    add(
        "--output",
        "-o",
        type=bulk.output_place,
        default=Path("restored"),
        help="folder, or a file for one photo (restored)",
    )
    of_photos += [add("--format", choices=_FORMATS, help="of the results (each photo's own, else png)")]
    add("--model", default=DEFAULT_RESTORER, help=f"{MODEL_HELP} ({DEFAULT_RESTORER})")
    of_found_faces = [
        add(
            "--faces",
            type=parsed(parse_faces),
            default=defaults.faces,
            help="all, largest, or positions such as 0,2-4 (all)",
        ),
        order := add("--order", choices=FACE_ORDERS, default=defaults.order, help="how positions count faces"),
        add("--min-size", type=float, default=defaults.min_size, metavar="PIXELS", help="skip smaller faces (0)"),
        add("--min-confidence", type=float, default=defaults.min_confidence, help="skip less certain faces (0.7)"),
    ]
    add("--strength", type=_strength, default=defaults.strength, help=_STRENGTH)
    add("--fidelity", type=float, help=_FIDELITY)
    of_found_faces += [
        add("--feather", type=float, default=defaults.feather, help="how softly faces blend at the edge, 0 to 1 (0.32)")
    ]
    add("--grain", type=float, default=defaults.grain, help="share of a face's noise that stays, 0 to 1 (0.15)")
    add("--color", choices=COLORS, default=defaults.color, help="colours taken from the photo")
    add("--upscale", type=int, choices=UPSCALES, default=defaults.upscale, help="also enlarge the photo (1)")
    of_photos += [add("--upscaler", type=Path, metavar="FILE", help=_UPSCALER)]
    of_photos += [order, add("--aligned", action="store_true", help="each image is one aligned face; no detection")]
    of_photos += [add("--scratches", action="store_true", help=_SCRATCHES)]
    add_device_argument(parser)
    add("--backend", default="auto", help=_BACKEND)
    add("--precision", choices=PRECISIONS, default="auto", help=_PRECISION)
    of_batches = [
        add(
            "--batch-size",
            type=int,
            default=defaults.batch_size,
            help="faces at once, more take memory (0 = automatic)",
        )
    ]
    add("--low-memory", action="store_true", help="one face at a time; one part of the model in memory, reloaded")
    add("--threads", type=int, metavar="N", help="CPU threads to use (all)")
    add("--seed", type=int, help="sample the latent with this seed; without one, its mode is used")
    of_films, of_ray = film.add_options(parser), bulk.add_options(parser)
    of_photos += [add("--compare", action="store_true", help="also write before and after, as NAME_compare.png")]
    add("--json", type=Path, metavar="REPORT", help="write what was found and done to this file")
    parser.set_defaults(run=run, of_found_faces=of_found_faces, of_photos=of_photos, of_batches=of_batches)
    parser.set_defaults(of_films=of_films, of_ray=of_ray)


def _strength(text: str) -> str | float:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, nor a number from 0 to 1") from None


def run(arguments: argparse.Namespace) -> int:
    """Restore photos, here or by Ray's workers, or a film. Returns the exit status.

    Raises UsageError for options that do not apply.
    """
    if arguments.aligned:
        _refuse_given(arguments, arguments.of_found_faces, "not with --aligned, by which each image is one face")
    if arguments.upscaler and (arguments.upscale == 1 or arguments.aligned or arguments.ray):
        raise UsageError("--upscaler enlarges photos: give --upscale 2 or 4, without --aligned and --ray")
    if arguments.low_memory:
        _refuse_given(
            arguments, arguments.of_batches, "not with --low-memory, by which faces are restored one at a time"
        )
    if arguments.ray:
        _refuse_given(arguments, arguments.of_films, "only for films, and --ray is for photos")
        return bulk.run(arguments, _options(arguments))
    _refuse_given(arguments, arguments.of_ray, "only with --ray")
    bulk.check_local(arguments)
    if film.is_asked(arguments):
        _refuse_given(arguments, arguments.of_photos, "only for photos")
        return film.run(arguments, _options(arguments))
    _refuse_given(arguments, arguments.of_films, "only for films")
    return _restore_photos(arguments)


def _refuse_given(arguments: argparse.Namespace, options: Sequence[argparse.Action], reason: str) -> None:
    """Raise UsageError, with the reason, naming the options that differ from their defaults."""
    given = [option.option_strings[0] for option in options if getattr(arguments, option.dest) != option.default]
    if given:
        raise UsageError(f"{', '.join(given)}: {reason}")


def _restore_photos(arguments: argparse.Namespace) -> int:
    """Restore every photo; one that fails is reported and the rest continue. Returns the exit status."""
    from ..io.photos import FORMATS
    from ..pipelines.jobs import find_photos, plan_jobs

    found = find_photos(arguments.photos, arguments.recursive, arguments.output)
    jobs = plan_jobs(found, arguments.output, arguments.compare, FORMATS.get(arguments.format, ()))
    if arguments.skip_existing and jobs[0].target == arguments.output:
        raise UsageError(f"--skip-existing is for a folder of results, and --output {arguments.output} is a file")
    files = (path for job in jobs for path in (job.source, job.target, job.compare))
    check_report(arguments.json, (*files, Path(arguments.model), arguments.upscaler))
    if len(jobs) > 1:
        wait_passively()  # before torch loads
    options = _options(arguments)
    if arguments.own_process:
        import_lean_diffusers()
    from ..pipelines.archive import restore_archive
    from ..pipelines.restore import RestoreRequest, restore

    def start(callbacks: PipelineCallbacks) -> tuple[Execution, Iterator[PhotoResult]]:
        execution = execution_of(arguments, resolve_device(arguments), callbacks)
        request = RestoreRequest(jobs, execution, options, arguments.aligned, arguments.scratches)
        results_of = partial(restore_archive, folder=arguments.output) if arguments.skip_existing else restore
        return execution, results_of(request, callbacks=callbacks)

    return report_results(start, len(jobs), found.skipped, found.summary(), arguments, options)


def _options(arguments: argparse.Namespace) -> RestoreOptions:
    """Raises UsageError for what makes no sense."""
    options = RestoreOptions(**{name: getattr(arguments, name) for name in RestoreOptions.__dataclass_fields__})
    check_options(options)
    if arguments.threads is not None and arguments.threads < 1:
        raise UsageError(f"--threads is at least 1, got {arguments.threads}")
    return replace(options, batch_size=1) if arguments.low_memory else options
