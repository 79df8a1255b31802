"""`quantface restore`: photos in, photos with restored faces out."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .. import __version__
from ..errors import QuantFaceError, UsageError
from ..faces.select import ORDERS, parse_positions
from ..io.atomic import atomic_path, check_writable
from ..kernels.backend import CHOICES as BACKEND_CHOICES
from ..types import DEFAULT_RESTORER, RestoreOptions
from . import film
from .devices import add_device, choose_device
from .jobs import Job, find_photos, plan_jobs

if TYPE_CHECKING:
    from ..restorer import OneStepRestorer
    from ..stages.restore import Restorer

Record = dict[str, Any]
"""One photo's entry in the report."""


_STRENGTH = "auto = by pixel, what helps; or 0 = the photo as it was, to 1 = restored (auto)"
_PRECISION = "between the integers (auto: bfloat16 for low-bit models where the device has it, else float32)"


def add_parser(commands: Any) -> None:
    defaults = RestoreOptions()
    parser = commands.add_parser("restore", help="restore the faces of photos", description=__doc__)
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="files, folders or patterns")
    add("--recursive", "-r", action="store_true", help="go into folders in folders; results lie alike")
    add("--output", "-o", type=Path, default=Path("restored"), help="folder, or a file for one photo (restored)")
    add("--model", default=DEFAULT_RESTORER, help=f"a known model's name or a .safetensors file ({DEFAULT_RESTORER})")
    add("--faces", type=_faces, default=defaults.faces, help="all, largest, or positions such as 0,2-4 (all)")
    add("--order", choices=ORDERS, default=defaults.order, help="how positions count faces")
    add("--min-size", type=float, default=defaults.min_size, metavar="PIXELS", help="leave smaller faces alone (0)")
    add("--min-confidence", type=float, default=defaults.min_confidence, help="leave less sure faces alone (0.7)")
    add("--strength", type=_strength, default=defaults.strength, help=_STRENGTH)
    add("--feather", type=float, default=defaults.feather, help="how softly faces fade at the rim, 0 to 1 (0.32)")
    add("--color", choices=["none", "adain", "wavelet"], default=defaults.color, help="colours taken from the photo")
    add("--upscale", type=int, choices=[1, 2, 4], default=defaults.upscale, help="enlarge the photo as well (1)")
    add("--aligned", action="store_true", help="each picture is one aligned face; needs no detector")
    add_device(parser)
    add("--backend", choices=BACKEND_CHOICES, default="auto", help="who computes low-bit layers (auto)")
    add("--precision", choices=["auto", "float32", "bfloat16"], default="auto", help=_PRECISION)
    add("--batch-size", type=int, default=defaults.batch_size, help="faces at once; more take memory (0 = as is quick)")
    add("--low-memory", action="store_true", help="one face at once, one part of the model in memory; slower")
    add("--seed", type=int, help="sample the latent with this seed; without, its mode is used")
    film.add_options(parser)
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
    # torch and diffusers take seconds to import: --help and a mistyped option do not wait for them.
    from ..io.models import restorer_path
    from ..stages.restore import check_options
    from .build import built

    options = RestoreOptions(**{name: getattr(arguments, name) for name in RestoreOptions.__dataclass_fields__})
    check_options(options)
    if arguments.low_memory:
        options = replace(options, batch_size=1)
    if film.is_asked(arguments):
        return film.run(arguments, options)
    found = find_photos(arguments.photos, arguments.recursive)
    jobs = plan_jobs(found, arguments.output, arguments.compare)
    _check_report(arguments.json, jobs)
    records: list[Record] = []
    report = {"quantface": __version__, "model": arguments.model, "options": asdict(options)}
    report |= {"photos": records, "skipped": dict(found.skipped), "finished": False}
    try:
        model = built(arguments.model) or restorer_path(arguments.model)
        _restore_all(jobs, _prepare(arguments, model, options), records)
        report["finished"] = True
    finally:  # whatever stopped it, an interrupt too
        if arguments.json:
            _write_report(report, arguments.json)
    if found.skipped:
        print(f"quantface: {found.summary()}", file=sys.stderr)
    failed = sum("error" in record for record in records)
    if failed:
        print(f"quantface: {failed} of {len(jobs)} photos failed", file=sys.stderr)
    return 1 if failed else 0


def _check_report(report: Path | None, jobs: list[Job]) -> None:
    pictures = {path.resolve() for job in jobs for path in (job.source, job.target, job.compare) if path}
    if report and report.resolve() in pictures:
        raise UsageError(f"--json {report} would overwrite a picture: choose another name")
    if report:
        check_writable(report, "--json")


def _prepare(arguments: argparse.Namespace, model: Path, options: RestoreOptions) -> Callable[[Job], Record]:
    """Load model and detector once; returns what carries out one job."""
    from ..faces.detect import FaceDetector
    from ..io.models import detector_path
    from .carry_out import carry_out

    detector = None if arguments.aligned else FaceDetector(detector_path())
    return partial(carry_out, restorer=loaded(arguments, model), detector=detector, options=options)


def loaded(arguments: argparse.Namespace, model: Path) -> Restorer:
    """The model's restorer, as the command's options ask for it."""
    import torch

    from ..io.checkpoint import load_restorer
    from ..kernels.dispatch import choose_backend
    from ..nn.swap import prepare
    from ..restorer import RestorerByParts

    device = choose_device(arguments.device)
    backend = choose_backend(device, None if arguments.backend == "auto" else arguments.backend)
    precision = None if arguments.precision == "auto" else getattr(torch, arguments.precision)

    def load(only: tuple[str, ...] = ("",)) -> OneStepRestorer:
        restorer = load_restorer(model, device, precision, only)
        prepare(restorer, backend)
        return restorer

    return RestorerByParts(load(()).config, device, load) if arguments.low_memory else load()


def _restore_all(jobs: list[Job], restore: Callable[[Job], Record], records: list[Record]) -> None:
    """Do all jobs; what any of them raises is its own error, and the rest goes on."""
    with tqdm(jobs, unit="photo", disable=None, dynamic_ncols=True) as bar:
        for job in bar:
            bar.set_postfix_str(job.source.name, refresh=True)
            record: Record = {"source": str(job.source)}
            began = time.perf_counter()
            try:
                record |= restore(job)
            except Exception as error:
                record["error"] = _reason(job, error)
                tqdm.write(f"error: {record['error']}", file=sys.stderr)
            for warning in record.get("warnings", ()):
                tqdm.write(f"warning: {warning}", file=sys.stderr)
            for line in _left_alone(record):
                tqdm.write(f"{job.source}: {line}", file=sys.stderr)
            records.append({**record, "seconds": round(time.perf_counter() - began, 3)})


def _left_alone(record: Record) -> list[str]:
    """A line for each face that was chosen and is as it was: the user may wonder why nothing changed."""
    done = zip(record.get("restored", ()), record.get("done", ()), strict=True)
    return [f"face {number} {words}" for number, words in done if words.startswith("left")]


def _reason(job: Job, error: Exception) -> str:
    """One line with the photo's name."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text:
        text = f"out of memory: {text or 'give the photo smaller, or --low-memory'}"
        text = text if isinstance(error, MemoryError | QuantFaceError) else "out of memory: give --device cpu"
    elif not isinstance(error, QuantFaceError):
        text = f"{type(error).__name__}: {text:.200}"
    return text if text.startswith((str(job.source), str(job.target))) else f"{job.source}: {text}"


def _write_report(report: Record, path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
