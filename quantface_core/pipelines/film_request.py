"""What is asked for when a film is to be restored, and what that comes to: a source, a sink and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import UsageError
from ..io.atomic import file_identity
from ..io.video import FilmReader
from ..io.video.numbered import NumberedFrames
from ..restorer import Restorer
from ..types import Face, Pixels, RestoreOptions
from .film_sink import FolderSink, Sink, VideoSink

_FOLDER_RATE = Fraction(25)  # frames a second of numbered pictures, unless the user says
_LONGEST = 10_000_000  # seconds; timestamps far beyond do not fit what ffmpeg counts in


@dataclass(frozen=True, eq=False)
class FilmRequest:
    """Which film, with which model, and how."""

    source: Path  # a film, or a folder of numbered pictures
    output: Path  # a film, or a folder for numbered pictures
    restorer: Restorer
    settings: Mapping[str, Any]  # of the restorer: its model, and how it computes, as `done.settings_of` tells
    options: RestoreOptions = RestoreOptions()  # noqa: RUF009 - frozen; positions of faces count the film's tracks
    detector: Callable[[Pixels], Sequence[Face]] | None = None  # None = the bundled one, at film's size
    smoothing: float = 2.0  # frames, the width of what steadies faces; 0 = each frame by itself
    codec: str | None = None  # None = the film's own
    crf: int | None = None  # the encoder's quality; None = one that shows no difference
    start: Fraction | None = None  # seconds of the film; None = its beginning
    end: Fraction | None = None  # seconds of the film; None = its end
    rate: Fraction | None = None  # frames a second of numbered pictures
    resume: bool = False  # go on with a run that was stopped


def check_request(request: FilmRequest) -> None:
    """Raise UsageError for times that no film has, and for a result in the film's own place."""
    if max(request.start or 0, request.end or 0) > _LONGEST:
        raise UsageError(f"--from and --to are times of a film: at most {_LONGEST} seconds")
    if request.end is not None and request.end <= (request.start or 0):
        raise UsageError(f"--to {float(request.end):g} s is not after --from {float(request.start or 0):g} s")
    if file_identity(request.output) == file_identity(request.source):
        raise UsageError(f"{request.output} is the film itself: choose another --output")


def open_source(request: FilmRequest) -> FilmReader | NumberedFrames:
    """What is to be restored. Raises ImageError, UsageError."""
    if not request.source.is_dir():
        return FilmReader(request.source)
    return NumberedFrames(request.source, request.rate or _FOLDER_RATE)


def open_sink(request: FilmRequest, source: FilmReader | NumberedFrames) -> Sink:
    """Where its frames go. Raises UsageError."""
    if request.output.suffix and not request.output.is_dir():
        return VideoSink(request.output, source, request.options.upscale, request.codec, request.crf, _range(request))
    if isinstance(source, FilmReader):
        raise UsageError(f"--output {request.output}: name a film, such as restored{request.source.suffix}")
    return FolderSink(request.output, source, request.options.upscale)


def _range(request: FilmRequest) -> tuple[Fraction, Fraction | None] | None:
    return None if request.start is None and request.end is None else (request.start or Fraction(0), request.end)


def film_settings(request: FilmRequest, source: FilmReader | NumberedFrames, sink: Sink) -> dict[str, Any]:
    """All that the result's frames depend on."""
    dtype = getattr(request.restorer, "dtype", None)  # what `auto` became; None = told when its parts are loaded
    return {
        **request.settings,
        **({"precision": str(dtype)} if dtype else {}),
        "quantface": __version__,
        "film": source.fingerprint(),
        "device": str(request.restorer.device),
        "options": asdict(request.options),
        "smoothing": request.smoothing,
        "rate": str(source.info.rate),
        "range": [None if t is None else str(t) for t in (request.start, request.end)],
        "output": sink.describe(),
    }
