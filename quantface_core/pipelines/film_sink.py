"""Where a film's restored frames go: into a film, part by part, or into a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from ..errors import UsageError
from ..io.atomic import atomic_path, move_into_place, remove_stale, writing
from ..io.file_identity import file_identity
from ..io.output_checks import check_writable
from ..io.video import (
    CONTAINERS,
    FilmReader,
    Frame,
    Part,
    SegmentWriter,
    Span,
    check_container,
    choose_encoder,
    enlarged_planes,
    join,
    stored_size,
    with_change,
)
from ..io.video.numbered import NumberedFrame, NumberedFrames, write_numbered
from ..stages.frames import RestoredFrame
from .film_state import FilmState

_PARTIAL = "partial.mkv"


class Sink(Protocol):
    """Takes frames in parts; a part counts once it has ended."""

    notes: tuple[str, ...]
    codec: str  # of the result
    size: tuple[int, int]  # of its frames: width, height in pixels

    def describe(self) -> dict[str, Any]:
        """What the result depends on, for the state."""

    def try_out(self, state: FilmState, frame: Any) -> None:
        """Write one frame as all will be written. Raises QuantFaceError."""

    def begin(self, state: FilmState, part: int) -> None:
        """Begin a part."""

    def add(self, restored: RestoredFrame) -> None:
        """Add the next frame of the part."""

    def end(self, state: FilmState, part: int) -> int:
        """Finish the part; return the number of frames to decode ahead."""

    def join(self, state: FilmState) -> None:
        """Make the result from all parts."""

    def write_partial(self, state: FilmState, records: Sequence[dict[str, Any]]) -> bool:
        """Write a partial result, the unfinished part included; False when there is nothing to write."""


class VideoSink:
    """A film file."""

    def __init__(
        self,
        output: Path,
        source: FilmReader | NumberedFrames,
        factor: int,
        codec: str | None,
        crf: int | None,
        span: tuple[Fraction, Fraction | None] | None,
    ) -> None:
        """Raises UsageError for what cannot be written."""
        suffix, info = output.suffix.lower(), source.info
        if suffix not in CONTAINERS:
            raise UsageError(f"output {output}: cannot write {suffix}; use {', '.join(CONTAINERS)}")
        check_writable(output, "output")
        remove_stale(output)
        self._output, self._info, self._factor, self._span = output, info, factor, span
        self._original = source.path if isinstance(source, FilmReader) else None
        self._encoder = choose_encoder(info, suffix, codec, crf)
        self.codec = self._encoder.codec
        self.notes = tuple(check_container(suffix, info))
        if self.codec != info.codec and codec is None and self._original:
            self.notes += (f"its codec {info.codec} becomes {self.codec}",)
        if isinstance(source, NumberedFrames) and source.transparent:
            self.notes += ("transparency is left out",)
        self.size = stored_size(info, self._encoder, factor)
        if self.size != (info.width * factor, info.height * factor):
            self.notes += (f"{self.codec} needs even sizes: the last row or column is repeated",)
        self._writer: SegmentWriter | None = None

    def describe(self) -> dict[str, Any]:
        return {"suffix": self._output.suffix.lower(), "codec": self.codec, "crf": self._encoder.crf}

    def try_out(self, state: FilmState, frame: Frame) -> None:
        path, target = state.folder / _PARTIAL, state.folder / f"trial{self._output.suffix.lower()}"
        writer = SegmentWriter(path, self._info, self._encoder, self._factor)
        try:
            writer.add(enlarged_planes(frame.planes, self._factor, frame.coding.bits))
        finally:
            writer.close()
        begin = frame.pts * self._info.time_base
        with writing(target):
            join([Part(path, [frame.pts])], self._info, self._encoder, self._original, Span(begin, begin + 1), target)
        target.unlink()
        path.unlink()

    def begin(self, state: FilmState, part: int) -> None:
        self._writer = SegmentWriter(state.folder / _PARTIAL, self._info, self._encoder, self._factor)

    def add(self, restored: RestoredFrame) -> None:
        frame, coding = restored.frame, self._info.coding
        assert self._writer is not None
        assert isinstance(frame, Frame | NumberedFrame)
        planes = enlarged_planes(frame.planes, self._factor, coding.bits)
        self._writer.add(with_change(planes, coding, restored.before, restored.pixels, restored.mask))

    def end(self, state: FilmState, part: int) -> int:
        assert self._writer is not None
        writer, self._writer = self._writer, None
        writer.close()
        move_into_place(state.folder / _PARTIAL, state.part(part, ".mkv"))
        return writer.delay

    def join(self, state: FilmState) -> None:
        self._write([_part(state, number) for number in range(state.parts_done())])

    def write_partial(self, state: FilmState, records: Sequence[dict[str, Any]]) -> bool:
        parts = [_part(state, number) for number in range(state.parts_done())]
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()  # even if it is empty: Windows cannot remove an open file
        if writer is not None and writer.count:
            parts.append(_part_of(state.folder / _PARTIAL, records, writer.delay))
        if parts:
            self._write(parts, stopped=True)
        return bool(parts)

    def _write(self, parts: list[Part], stopped: bool = False) -> None:
        info = self._info
        first, last = parts[0].times[0], parts[-1].times[-1]
        start, end = info.start, None
        if self._span is not None:
            start = first * info.time_base
            end = None if self._span[1] is None else info.start + self._span[1]
        if stopped:
            end = last * info.time_base + 1 / info.rate
        with atomic_path(self._output) as temporary:
            join(parts, info, self._encoder, self._original, Span(start, end), temporary)


class FolderSink:
    """A folder of images, each named like its source."""

    notes: tuple[str, ...] = ()
    codec = "pictures"

    def __init__(self, output: Path, source: NumberedFrames, factor: int) -> None:
        """Raises UsageError for an output that is a file, or would overwrite source images."""
        if output.exists() and not output.is_dir():
            raise UsageError(f"output {output} is a file: name a folder, or a film")
        sources = {file_identity(path) for path in source.paths}
        results = (output / source.name(number) for number in range(len(source.paths)))
        if found := next((path for path in results if file_identity(path) in sources), None):
            raise UsageError(f"{found} would overwrite a source image: choose another output")
        remove_stale(output / source.name(0))
        self._output, self._source, self._written = output, source, 0
        self.size = source.info.width * factor, source.info.height * factor

    def describe(self) -> dict[str, Any]:
        return {"codec": self.codec}

    def try_out(self, state: FilmState, frame: Any) -> None:
        """Nothing to try: every image is written on its own."""

    def begin(self, state: FilmState, part: int) -> None:
        """Nothing to begin: every image is complete on its own."""

    def add(self, restored: RestoredFrame) -> None:
        frame = restored.frame
        assert isinstance(frame, NumberedFrame)
        write_numbered(frame, restored.pixels, self._output / self._source.name(frame.pts))
        self._written += 1

    def end(self, state: FilmState, part: int) -> int:
        return 0

    def join(self, state: FilmState) -> None:
        """Nothing to join: the images are there."""

    def write_partial(self, state: FilmState, records: Sequence[dict[str, Any]]) -> bool:
        return self._written > 0 or state.parts_done() > 0


def _part(state: FilmState, number: int) -> Part:
    record = state.read_part(number)
    return _part_of(state.part(number, ".mkv"), record["frames"], record["delay"])


def _part_of(path: Path, records: Sequence[dict[str, Any]], delay: int) -> Part:
    return Part(path, [frame["pts"] for frame in records], delay, records[-1].get("duration", 0))
