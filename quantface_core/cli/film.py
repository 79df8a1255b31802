"""`quantface restore` of a film, or of a folder of numbered frames."""

from __future__ import annotations

import argparse
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..io.video.containers import CONTAINERS
from ..io.video.info import VIDEO_SUFFIXES
from ..options import RestoreOptions
from .devices import execution_of, resolve_device
from .lean_diffusers import import_lean_diffusers
from .message import tell
from .outputs import check_report
from .progress import ProgressBars
from .run_report import describe_execution, run_report

if TYPE_CHECKING:
    from ..pipelines.film_report import FilmResult
    from ..pipelines.film_request import FilmRequest
    from ..pipelines.models import Execution

_FASTEST = 1000  # frames a second


def add_options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Add the options for films alone; returns them."""
    group = parser.add_argument_group("films", "film.mp4 --output restored.mp4")
    add = group.add_argument
    return [
        add("--from", dest="begin", type=_seconds, metavar="TIME", help="start at this time: 1:20, or seconds"),
        add("--to", dest="end", type=_seconds, metavar="TIME", help="stop before this time"),
        add("--resume", action="store_true", help="continue a film that was stopped"),
        add("--smoothing", type=float, default=2.0, metavar="FRAMES", help="steadies faces; 0 = frame by frame (2)"),
        add("--deinterlace", action="store_true", help="make interlaced frames (home videos) progressive"),
        add("--codec", help="video codec of the result: h264, hevc, vp9, ... (the film's own)"),
        add("--crf", type=int, help="the codec's quality, lower = better (visually lossless)"),
        add("--frames", action="store_true", help="the given folder holds a film's numbered frames"),
        add("--fps", type=_rate, metavar="RATE", help="frames per second of numbered frames (25)"),
    ]


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
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 1:20 or 80.5") from None
    return sum((part * 60**power for power, part in enumerate(reversed(parts))), Fraction(0))


def _rate(text: str) -> Fraction:
    """`25`, `30000/1001` -> frames a second."""
    try:
        rate = _fraction(text)
        if not 0 < rate <= _FASTEST:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate such as 25 or 30000/1001, up to {_FASTEST}") from None
    return rate


def is_asked(arguments: argparse.Namespace) -> bool:
    """Whether a film is to be restored. Raises UsageError where films and photos are mixed, or frames are no folder."""
    films = [name for name in arguments.photos if _is_film(name, arguments)]
    if films and len(arguments.photos) > 1:
        raise UsageError(f"{films[0]} is a film: restore it by a command of its own")
    if arguments.frames and not os.path.isdir(arguments.photos[0]):
        raise UsageError(f"--frames: {arguments.photos[0]} is not a folder of numbered frames")
    return bool(films)


def _is_film(name: str, arguments: argparse.Namespace) -> bool:
    path = Path(name)
    if os.path.isdir(path):
        return arguments.frames or arguments.output.suffix.lower() in VIDEO_SUFFIXES
    # Whatever it is called, as an animated .gif, one file that is to become a film is one.
    becomes_film = len(arguments.photos) == 1 and arguments.output.suffix.lower() in CONTAINERS
    return path.suffix.lower() in VIDEO_SUFFIXES or (becomes_film and path.is_file() and not arguments.output.is_dir())


def _files(source: Path, output: Path) -> list[Path]:
    """What is read and made: the films, and numbered frames in their folders."""
    from ..pipelines.result_names import result_name

    frames = [Path(name) for name in os.listdir(source)] if source.is_dir() else []
    return [source, output, *(source / frame for frame in frames), *(output / result_name(frame) for frame in frames)]


def run(arguments: argparse.Namespace, options: RestoreOptions) -> int:
    """Restore the film. Returns the exit status."""
    if arguments.own_process:
        import_lean_diffusers()
    from ..pipelines.film import restore_film
    from ..pipelines.film_state import check_resumable
    from ..pipelines.models import resolve

    source, output = Path(arguments.photos[0]), arguments.output
    if not source.is_dir() and (output.is_dir() or not output.suffix):
        output = output / source.name
    check_report(arguments.json, (*_files(source, output), Path(arguments.model)))
    if arguments.resume:
        check_resumable(output)  # before the finished film's report is replaced
    with run_report(arguments, options) as report, ProgressBars() as callbacks:
        report["film"] = None
        execution = execution_of(arguments, resolve_device(arguments), callbacks)
        request = _request(arguments, output, options, execution)
        report |= describe_execution(resolve(execution)) if arguments.json else {}
        result = restore_film(request, callbacks)
        report["film"] = result.to_dict()
    tell(f"wrote {result.frames} frames into {result.output}, {_faces(result, options)}")
    return 0


def _faces(result: FilmResult, options: RestoreOptions) -> str:
    """How many faces were restored, or why none was."""
    from ..stages.outcome import is_unchanged

    if not result.tracks and isinstance(options.faces, str):
        return "no face found: a lower --min-size or --min-confidence may find some"
    if not result.tracks:
        return "no face has such a number: --faces all --json REPORT lists them"
    left = sum(is_unchanged(track.applied_strength) for track in result.tracks)
    return f"{len(result.tracks) - left} of {len(result.tracks)} faces restored"


def _request(arguments: argparse.Namespace, output: Path, options: RestoreOptions, execution: Execution) -> FilmRequest:
    from ..pipelines.film_request import FilmRequest

    return FilmRequest(
        source=Path(arguments.photos[0]),
        output=output,
        execution=execution,
        options=options,
        smoothing=arguments.smoothing,
        codec=arguments.codec,
        crf=arguments.crf,
        start=arguments.begin,
        end=arguments.end,
        rate=arguments.fps,
        resume=arguments.resume,
        deinterlace=arguments.deinterlace,
    )
