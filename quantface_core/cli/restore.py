"""`quantface restore`: photos in, photos with restored faces out."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import __version__
from ..errors import QuantFaceError, UsageError
from ..io.atomic import atomic_path
from ..types import RestoreOptions
from .jobs import Job, find_photos, plan_jobs


def add_parser(commands: Any) -> None:
    defaults = RestoreOptions()
    parser = commands.add_parser("restore", help="restore the faces of photos", description=__doc__)
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="files, folders or patterns")
    add("--output", "-o", type=Path, default=Path("restored"), help="folder, or a file for one photo (restored)")
    add("--model", default="quantface-mini", help="a known model's name or a .safetensors file (quantface-mini)")
    add("--faces", type=_faces, default=defaults.faces, help="all, largest, or positions such as 0,2 (all)")
    add("--order", choices=["left-to-right", "size"], default=defaults.order, help="how positions count faces")
    add("--min-size", type=float, default=defaults.min_size, metavar="PIXELS", help="leave smaller faces alone (0)")
    add("--min-confidence", type=float, default=defaults.min_confidence, help="leave less sure faces alone (0.7)")
    add("--strength", type=float, default=defaults.strength, help="0 = the photo as it was, 1 = restored (1)")
    add("--color", choices=["none", "adain", "wavelet"], default=defaults.color, help="colours taken from the photo")
    add("--upscale", type=int, choices=[1, 2, 4], default=defaults.upscale, help="enlarge the photo as well (1)")
    add("--aligned", action="store_true", help="each picture is one aligned face; needs no detector")
    add("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="where to compute (auto)")
    add("--batch-size", type=int, default=defaults.batch_size, help="faces at once; more is faster, takes memory (4)")
    add("--seed", type=int, help="sample the latent with this seed; without, its mode is used")
    add("--compare", action="store_true", help="also write before and after side by side, NAME_compare.png")
    add("--json", type=Path, metavar="REPORT", help="write what was found and done to this file")
    parser.set_defaults(run=run)


def _faces(text: str) -> str | tuple[int, ...]:
    if text in ("all", "largest"):
        return text
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not all, largest, or positions such as 0,2") from None


def run(arguments: argparse.Namespace) -> int:
    """Restore every photo; one that fails is reported and the rest goes on. Returns the exit status."""
    names = list(RestoreOptions.__dataclass_fields__)
    options = RestoreOptions(**{name: getattr(arguments, name) for name in names})
    _check_ranges(options)
    jobs = plan_jobs(find_photos(arguments.photos), arguments.output, arguments.compare)
    _check_report(arguments.json, jobs)
    restore, model = _prepare(arguments, options)
    records = []
    with tqdm(jobs, unit="photo", disable=None, dynamic_ncols=True) as bar:
        for job in bar:
            bar.set_postfix_str(job.source.name, refresh=True)
            records.append(_attempt(job, restore))
    if arguments.json:
        report = {"quantface": __version__, "model": model, "options": asdict(options), "photos": records}
        _write_report(report, arguments.json)
    failed = [record for record in records if "error" in record]
    if failed:
        print(f"quantface: {len(failed)} of {len(jobs)} photos failed", file=sys.stderr)
    return 1 if failed else 0


def _check_ranges(options: RestoreOptions) -> None:
    """Usage errors are told before anything is loaded."""
    from ..stages.restore import check_options

    check_options(options)


def _check_report(report: Path | None, jobs: list[Job]) -> None:
    if report and report.resolve() in {path.resolve() for job in jobs for path in (job.source, job.target)}:
        raise UsageError(f"--json {report} would overwrite a picture: choose another name")


def _prepare(arguments: argparse.Namespace, options: RestoreOptions) -> tuple[Callable[[Job], dict[str, Any]], str]:
    """Load model and detector once; returns what restores one job, and the model's name for the report."""
    from ..faces.detect import FaceDetector
    from ..io.checkpoint import load_restorer
    from ..io.models import detector_path, restorer_path
    from .devices import choose_device

    device = choose_device(arguments.device)
    detector = None if arguments.aligned else FaceDetector(detector_path())
    restorer = load_restorer(restorer_path(arguments.model), device)
    return lambda job: restore_job(job, restorer, detector, options), restorer.config.name


def _attempt(job: Job, restore: Callable[[Job], dict[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {"source": str(job.source)}
    try:
        began = time.perf_counter()
        record |= restore(job)
        record["seconds"] = round(time.perf_counter() - began, 3)
    except QuantFaceError as error:
        tqdm.write(f"error: {error}", file=sys.stderr)
        record["error"] = str(error)
    return record


def restore_job(job: Job, restorer: Any, detector: Any, options: RestoreOptions) -> dict[str, Any]:
    """Read, restore and write one photo; returns its entry of the report. Raises QuantFaceError."""
    from ..io.photos import read_photo, write_photo
    from ..stages.restore import restore_aligned, restore_photo

    photo = read_photo(job.source)
    if detector is None:
        result = restore_aligned(photo.pixels, restorer, options)
    else:
        result = restore_photo(photo.pixels, restorer, detector(photo.pixels), options)
    if not result.restored:
        tqdm.write(f"warning: {job.source}: {_why_nothing(result.faces)}; written unchanged", file=sys.stderr)
    same_format = job.source.suffix.lower() == job.target.suffix.lower()
    if not result.restored and options.upscale == 1 and same_format:
        _copy(job.source, job.target)
    else:
        write_photo(replace(photo, pixels=result.pixels, alpha=_fitted(photo.alpha, result.pixels)), job.target)
    if job.compare:
        write_photo(replace(photo, pixels=side_by_side(photo.pixels, result.pixels), alpha=None), job.compare)
    return {
        "output": str(job.target),
        "compare": str(job.compare) if job.compare else None,
        "size": list(photo.pixels.shape[1::-1]),
        "faces": [face.to_dict() for face in result.faces],
        "restored": list(result.restored),
    }


def _why_nothing(faces: Any) -> str:
    return "no face found" if not faces else f"none of the {len(faces)} faces chosen"


def _copy(source: Path, target: Path) -> None:
    """A photo nothing was done to keeps its very bytes."""
    from ..errors import ImageError

    try:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise ImageError(f"{target}: cannot write ({error.strerror})") from error


def _fitted(alpha: Any, pixels: Any) -> Any:
    if alpha is None or alpha.shape == pixels.shape[:2]:
        return alpha
    import cv2

    return cv2.resize(alpha, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def side_by_side(before: Any, after: Any) -> Any:
    """Before and after in one picture, at the size of after, with a thin white gap."""
    import cv2
    import numpy as np

    before = (
        cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_CUBIC) if before.shape != after.shape else before
    )
    gap = np.full((after.shape[0], max(2, after.shape[1] // 128), 3), np.iinfo(after.dtype).max, after.dtype)
    return np.concatenate([before, gap, after], axis=1)


def _write_report(report: dict[str, Any], path: Path) -> None:
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise QuantFaceError(f"{path}: cannot write the report ({error.strerror})") from error
