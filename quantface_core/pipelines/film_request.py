"""A request to restore a film, and what it comes to: a source, a sink and settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..io.file_identity import file_identity
from ..io.video import FilmReader
from ..io.video.numbered import NumberedFrames
from ..options import RestoreOptions
from ..restorer import Restorer
from ..types import Face, Pixels
from .done import settings_of
from .film_sink import FolderSink, Sink, VideoSink
from .film_state import check_resumable
from .models import Execution

_FOLDER_RATE = Fraction(25)  # frames per second of numbered images, by default
_LONGEST = 10_000_000  # seconds; far larger timestamps overflow FFmpeg's integers


@dataclass(frozen=True, eq=False)
class FilmRequest:
    """Which film, with which model, and how."""

    source: Path  # a film, or a folder of numbered images
    output: Path  # a film, or a folder for numbered images
    execution: Execution | Restorer  # a model's file and how it is executed, or a restorer in memory
    options: RestoreOptions = RestoreOptions()  # noqa: RUF009 - frozen; positions of faces count the film's tracks
    detector: Callable[[Pixels], Sequence[Face]] | None = None  # None = `film_detector`
    smoothing: float = 2.0  # frames: sigma of the temporal smoothing; 0 = independent frames
    codec: str | None = None  # None = the film's own
    crf: int | None = None  # the encoder's quality; None = without visible loss
    start: Fraction | None = None  # seconds of the film; None = its beginning
    end: Fraction | None = None  # seconds of the film; None = its end
    rate: Fraction | None = None  # frames per second of numbered images; None = 25
    deinterlace: bool = False  # make each frame's two fields one progressive frame; not for numbered images
    resume: bool = False  # continue a run that was stopped; not for a restorer in memory, which may have changed


def check_request(request: FilmRequest) -> None:
    """Raise UsageError for a rate that a film has, numbered images to be deinterlaced, an impossible range of times,
    the film itself as output, and for `resume` of a film that is finished or with a restorer in memory.
    """
    if request.rate is not None and not request.source.is_dir():
        raise UsageError(f"rate is for numbered images: {request.source} has its own frame rate")
    if request.deinterlace and request.source.is_dir():
        raise UsageError(f"deinterlace is for films: {request.source} is a folder of images")
    if max(request.start or 0, request.end or 0) > _LONGEST:
        raise UsageError(f"start and end are times of a film: at most {_LONGEST} seconds")
    if request.end is not None and request.end <= (request.start or 0):
        raise UsageError(f"end {float(request.end):g} s is not after start {float(request.start or 0):g} s")
    if file_identity(request.output) == file_identity(request.source):
        raise UsageError(f"{request.output} is the film itself: choose another output")
    if request.resume and not isinstance(request.execution, Execution):
        raise UsageError("resume is for a model's file: a restorer in memory may not be the one that began")
    if request.resume:
        check_resumable(request.output)


def open_source(request: FilmRequest) -> FilmReader | NumberedFrames:
    """Open the film or folder to be restored. Raises ImageError, UsageError."""
    if not request.source.is_dir():
        return FilmReader(request.source, request.deinterlace)
    return NumberedFrames(request.source, request.rate or _FOLDER_RATE)


def open_sink(request: FilmRequest, source: FilmReader | NumberedFrames) -> Sink:
    """Choose where its frames go. Raises UsageError."""
    if request.output.suffix and not request.output.is_dir():
        return VideoSink(request.output, source, request.options.upscale, request.codec, request.crf, _range(request))
    if isinstance(source, FilmReader):
        raise UsageError(f"output {request.output}: name a film, such as restored{request.source.suffix}")
    if request.codec is not None or request.crf is not None:
        raise UsageError(f"codec and crf are for films: {request.output} is a folder of images")
    return FolderSink(request.output, source, request.options.upscale)


def _range(request: FilmRequest) -> tuple[Fraction, Fraction | None] | None:
    return None if request.start is None and request.end is None else (request.start or Fraction(0), request.end)


def film_settings(
    request: FilmRequest, restorer: Restorer, source: FilmReader | NumberedFrames, sink: Sink
) -> dict[str, Any]:
    """Everything the result's frames depend on; nothing for a restorer in memory, whose runs are not resumed.

    Raises ModelError when the model cannot be read.
    """
    if not isinstance(request.execution, Execution):
        return {}
    settings = settings_of(request.execution, request.options)
    dtype = getattr(restorer, "dtype", None)  # what `auto` became; None = known once its parts are loaded
    return {
        **settings,
        "model": settings["model"]["sha256"],  # by any name
        **({"precision": str(dtype)} if dtype else {}),
        "film": source.fingerprint(),
        "device": str(restorer.device),
        "smoothing": request.smoothing,
        "rate": str(source.info.rate),
        "deinterlace": request.deinterlace,
        "range": [None if t is None else str(t) for t in (request.start, request.end)],
        "output": sink.describe(),
    }
