"""`quantface restore` of a film, or of a folder of numbered frames."""

from __future__ import annotations

import argparse
import json
import os
import re
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import UsageError
from ..io.atomic import atomic_path, check_report
from ..io.video.info import VIDEO_SUFFIXES
from ..types import RestoreOptions
from .devices import resolve_device
from .progress import ProgressBars

_FASTEST = 1000  # frames a second


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("films", "film.mp4 --output restored.mp4")
    add = group.add_argument
    add("--from", dest="begin", type=_seconds, metavar="TIME", help="begin at this time: 1:20, or seconds")
    add("--to", dest="end", type=_seconds, metavar="TIME", help="end before this time")
    add("--resume", action="store_true", help="go on with a film that was stopped")
    add("--smoothing", type=float, default=2.0, metavar="FRAMES", help="steadies faces; 0 = each frame by itself (2)")
    add("--codec", help="of the result: h264, hevc, vp9, ... (the film's own)")
    add("--crf", type=int, help="the codec's quality, smaller = better (so fine that no difference is seen)")
    add("--frames", action="store_true", help="the folder named holds a film's numbered frames")
    add("--fps", type=_rate, metavar="RATE", help="frames a second of numbered frames (25)")


def _fraction(text: str) -> Fraction:
    """`80.5`, `30000/1001`; no exponent, by which a few letters are a number that fills the memory."""
    if not re.fullmatch(r"[0-9./]{1,40}", text):
        raise ValueError
    return Fraction(text)


def _seconds(text: str) -> Fraction:
    """`80`, `1:20`, `0:01:20.5` -> seconds."""
    try:
        parts = [_fraction(part) for part in text.split(":")]
        if len(parts) > 3:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 1:20 or 80.5") from None
    return sum((part * 60**power for power, part in enumerate(reversed(parts))), Fraction(0))


def _rate(text: str) -> Fraction:
    """`25`, `30000/1001` -> frames a second."""
    try:
        rate = _fraction(text)
        if not 0 < rate <= _FASTEST:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is no rate such as 25 or 30000/1001, at most {_FASTEST}") from None
    return rate


def is_asked(arguments: argparse.Namespace) -> bool:
    """Whether a film is to be restored. Raises UsageError where films and photos are mixed."""
    films = [name for name in arguments.photos if _is_film(name, arguments)]
    if films and len(arguments.photos) > 1:
        raise UsageError(f"{films[0]} is a film: restore it by a command of its own")
    if not films and (arguments.resume or arguments.begin is not None or arguments.end is not None):
        raise UsageError("--resume, --from and --to are for films")
    return bool(films)


def _is_film(name: str, arguments: argparse.Namespace) -> bool:
    path = Path(name)
    if os.path.isdir(path):
        return arguments.frames or arguments.output.suffix.lower() in VIDEO_SUFFIXES
    return path.suffix.lower() in VIDEO_SUFFIXES


def _files(source: Path, output: Path) -> list[Path]:
    """What is read and made: the films, and numbered frames in their folders."""
    from ..pipelines.jobs import result_name

    frames = [Path(name) for name in os.listdir(source)] if source.is_dir() else []
    return [source, output, *(source / frame for frame in frames), *(output / result_name(frame) for frame in frames)]


def run(arguments: argparse.Namespace, options: RestoreOptions) -> int:
    """Restore the film. Returns the exit status."""
    from ..pipelines.done import settings_of
    from ..pipelines.fetch import model_path
    from ..pipelines.film import restore_film
    from ..pipelines.film_request import FilmRequest
    from ..pipelines.restore import RestoreRequest, ready
    from ..runtime.threads import compute_by

    source, output = Path(arguments.photos[0]), arguments.output
    if arguments.compare or arguments.aligned:
        raise UsageError("--compare and --aligned are for photos")
    if not source.is_dir() and (output.is_dir() or not output.suffix):
        output = output / source.name
    check_report(arguments.json, (*_files(source, output), Path(arguments.model)))
    if arguments.threads:
        compute_by(arguments.threads)
    with ProgressBars() as callbacks:
        model = model_path(arguments.model, callbacks)
        device = resolve_device(arguments)
        backend, precision, low_memory = arguments.backend, arguments.precision, arguments.low_memory
        asked = RestoreRequest(
            (), model, options, device, backend, precision, low_memory=low_memory, threads=arguments.threads
        )
        request = FilmRequest(
            source,
            output,
            ready(model, device, backend, precision, low_memory),
            settings_of(asked),
            options,
            smoothing=arguments.smoothing,
            codec=arguments.codec,
            crf=arguments.crf,
            start=arguments.begin,
            end=arguments.end,
            rate=arguments.fps,
            resume=arguments.resume,
        )
        result = restore_film(request, callbacks)
    if arguments.json:
        report: dict[str, Any] = {"quantface": __version__, "model": arguments.model, "options": asdict(options)}
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps({**report, "film": result.to_dict()}, indent=2) + "\n", "utf-8")
    return 0
