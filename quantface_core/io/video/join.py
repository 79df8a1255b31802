"""Join a film's parts without re-encoding them, with the sound and subtitles of the film they were made from."""

from __future__ import annotations

import errno
import heapq
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...errors import UsageError, WriteError
from .encode import Encoder, nominal_rate
from .info import FilmInfo
from .read import open_film, require_av

_NOT_OURS = ("major_brand", "minor_version", "compatible_brands", "encoder")  # the source's, not the result's
_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS)
_AFTER = 5.0  # seconds before the range, searched for subtitles that reach into it


@dataclass(frozen=True)
class Part:
    """A piece of a film that `SegmentWriter` wrote."""

    path: Path
    times: Sequence[int]  # of its frames in order of presentation, in the film's time base
    delay: int = 0  # frames to decode ahead


@dataclass(frozen=True)
class Span:
    """A range of a film, in its own seconds; 0 in the result is `start`."""

    start: Fraction
    end: Fraction | None = None  # None = to its end


def check_container(suffix: str, info: FilmInfo) -> list[str]:
    """Return notes on subtitles that a container cannot hold. Raises UsageError for sound that it cannot hold."""
    av = require_av()
    with av.open(os.devnull, "w", format=_FORMATS[suffix]) as container:
        known = container.supported_codecs
    notes = []
    for codec in dict.fromkeys(info.others):
        if codec in known:
            continue
        if av.codec.Codec(codec, "r").type == "audio":
            raise UsageError(f"{suffix} cannot hold the film's sound ({codec}): name an output ending in .mkv or .mov")
        notes.append(f"{suffix} cannot hold its subtitles ({codec}), and they are left out: .mkv can")
    return notes


_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"}


def join(
    parts: Sequence[Part], info: FilmInfo, encoder: Encoder, source: Path | None, span: Span, target: Path
) -> None:
    """Join parts into one film, with the sound and subtitles of `source` within `span`; None = neither.

    Raises WriteError for what the container cannot hold, OSError for what the disk refuses.
    """
    av = require_av()
    try:
        with ExitStack() as stack:
            output = stack.enter_context(av.open(str(target), "w", format=_FORMATS[target.suffix.lower()]))
            shift = round(span.start / info.time_base)
            first = stack.enter_context(av.open(str(parts[0].path)))
            video = output.add_stream_from_template(first.streams.video[0], opaque=True)
            video.time_base = info.time_base
            if encoder.codec == "hevc" and target.suffix.lower() in (".mp4", ".m4v", ".mov"):
                video.codec_context.codec_tag = "hvc1"  # which Apple's players require
            # Closed after an error too, whose traceback would keep a part open: Windows removes no open file.
            pictures = stack.enter_context(closing(_pictures(av, parts, info, encoder, shift, video)))
            packets: list[Iterator[tuple[float, Any]]] = [pictures]
            if source is not None:
                original = stack.enter_context(open_film(av, source))
                packets.append(_copied(original, output, span))
                _describe(original, output, video, whole=span.end is None and span.start == info.start)
            for _, packet in heapq.merge(*packets, key=lambda pair: pair[0]):
                output.mux(packet)
    except av.error.FFmpegError as error:
        if error.errno in _REFUSED:
            raise OSError(error.errno, error.strerror) from error
        raise WriteError(f"{target.suffix} cannot hold this film: {error.strerror or error}") from error


def _pictures(
    av: Any, parts: Sequence[Part], info: FilmInfo, encoder: Encoder, shift: int, stream: Any
) -> Generator[tuple[float, Any], None, None]:
    """Yield (seconds, packet) of all parts, at the film's own times."""
    rate, delay = nominal_rate(info, encoder), max(part.delay for part in parts)
    step = max(1, round(1 / (info.rate * info.time_base)))
    # A packet's decoding time is the presentation time of the frame `delay` before it.
    due = deque(parts[0].times[0] - step * n for n in range(delay, 0, -1))
    for part in parts:
        due.extend(part.times)
        with av.open(str(part.path)) as container:
            own = container.streams.video[0]
            for packet in container.demux(own):
                if packet.pts is None:
                    continue
                index = round(packet.pts * own.time_base * rate)
                shown = part.times[index]
                following = part.times[index + 1] if index + 1 < len(part.times) else shown + step
                packet.stream, packet.time_base = stream, info.time_base
                packet.pts, packet.dts, packet.duration = shown - shift, due.popleft() - shift, following - shown
                yield float(packet.dts * info.time_base), packet


def _copied(original: Any, output: Any, span: Span) -> Iterator[tuple[float, Any]]:
    """Yield (seconds, packet) of the sound and subtitles that the container can hold."""
    streams = {}
    for stream in original.streams:
        if stream.type not in ("audio", "subtitle") or stream.codec_context is None:
            continue
        if stream.codec_context.codec.canonical_name not in output.supported_codecs:
            continue
        copy = output.add_stream_from_template(stream, opaque=True)
        copy.time_base = stream.time_base
        copy.metadata.update({k: v for k, v in stream.metadata.items() if k.lower() not in _NOT_OURS})
        copy.disposition = stream.disposition
        streams[stream.index] = copy
    return _packets(original, streams, span)


def _packets(original: Any, streams: dict[int, Any], span: Span) -> Iterator[tuple[float, Any]]:
    if not streams:
        return
    wanted = [original.streams[index] for index in streams]
    if span.start > 0:
        original.seek(max(0, int((float(span.start) - _AFTER) * 1e6)))
    for packet in _until_damaged(original.demux(wanted)):
        if packet.pts is None or packet.dts is None:
            continue
        base = packet.time_base
        begins, ends = packet.pts * base, (packet.pts + (packet.duration or 0)) * base
        subtitle = packet.stream.type == "subtitle"
        # Sound before the first frame belongs to the film; before a range within it, it does not.
        if span.start > 0 and ((ends if subtitle else begins) < span.start):
            continue
        if span.end is not None and begins >= span.end:
            if all(s.type == "subtitle" for s in wanted):
                return
            continue
        shift = round(span.start / base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = streams[packet.stream.index]
        yield float(packet.dts * base), packet


def _until_damaged(packets: Iterable[Any]) -> Iterator[Any]:
    av = require_av()
    try:
        yield from packets
    except av.error.FFmpegError:
        return


def _describe(original: Any, output: Any, video: Any, whole: bool) -> None:
    """Copy the film's metadata, and of the whole film its chapters."""
    output.metadata.update({k: v for k, v in original.metadata.items() if k.lower() not in _NOT_OURS})
    own = original.streams.video[0].metadata
    video.metadata.update({k: v for k, v in own.items() if k.lower() not in (*_NOT_OURS, "rotate", "duration")})
    if whole and hasattr(output, "set_chapters") and (chapters := original.chapters()):
        output.set_chapters(chapters)
