"""A film's sound and subtitles, copied as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .containers import CONTAINERS, held_codecs
from .continuity import Continuity
from .opening import has_times, require_av

NOT_COPIED = ("major_brand", "minor_version", "compatible_brands", "encoder")  # metadata of the source's container

_UNNAMED = {"1 channels": "mono", "2 channels": "stereo"}  # channels as AVI has them, which MP4 refuses
_AFTER = 5.0  # seconds before the range, searched for subtitles that reach into it


@dataclass(frozen=True)
class Span:
    """A range of a film, in its own seconds; 0 in the result is `start`."""

    start: Fraction
    end: Fraction | None = None  # None = to its end


def copied(original: Any, output: Any, span: Span, suffix: str) -> Iterator[tuple[float, Any]]:
    """Yield (seconds, packet) of the sound and subtitles that the container can hold, and copy subtitles' fonts."""
    streams, known = {}, held_codecs(suffix)
    for stream in original.streams:
        if stream.type == "attachment" and CONTAINERS[suffix] == "matroska":
            output.add_attachment(stream.name or "", stream.mimetype or "", stream.data)
        if stream.type not in ("audio", "subtitle") or stream.codec_context is None:
            continue
        if stream.codec_context.codec.canonical_name not in known:
            continue
        copy = output.add_stream_from_template(stream, opaque=True)
        if stream.type == "audio" and stream.layout.name in _UNNAMED:
            copy.codec_context.layout = _UNNAMED[stream.layout.name]
        copy.time_base = stream.time_base
        copy.metadata.update({k: v for k, v in stream.metadata.items() if k.lower() not in NOT_COPIED})
        copy.disposition = stream.disposition
        streams[stream.index] = copy
    return _packets(original, streams, span)


def _packets(original: Any, streams: dict[int, Any], span: Span) -> Iterator[tuple[float, Any]]:
    if not streams:
        return
    wanted = [original.streams[index] for index in streams]
    if (before := float(span.start) - _AFTER) > 0 and has_times(original):
        original.seek(int(before * 1e6))
    continuity = Continuity()
    for packet in _until_damaged(original.demux(wanted)):
        if packet.pts is None or packet.dts is None:
            continue
        base, index, subtitle = packet.time_base, packet.stream.index, packet.stream.type == "subtitle"
        length = (packet.duration or 0) * base
        if not subtitle:  # subtitles come too seldom to tell where times begin again
            continuity.update(index, packet.dts * base, length)
        begins = packet.pts * base + continuity.offset
        # Sound before the first frame belongs to the film; before a range within it, it does not.
        if span.start > 0 and (begins + length if subtitle else begins) < span.start:
            continue
        if span.end is not None and begins >= span.end:
            if all(s.type == "subtitle" for s in wanted):
                return
            continue
        shift = round((continuity.offset - span.start) / base)
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
        packet.stream = streams[index]
        yield float(packet.dts * base), packet


def _until_damaged(packets: Iterable[Any]) -> Iterator[Any]:
    av = require_av()
    try:
        yield from packets
    except av.error.FFmpegError:
        return
