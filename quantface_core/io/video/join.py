"""Join a film's parts without re-encoding them, with the sound and subtitles of the film they were made from."""

from __future__ import annotations

import errno
import heapq
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import WriteError
from .containers import CONTAINERS, QUICKTIME
from .copied import NOT_COPIED, Span, copied
from .encode import Encoder, nominal_rate
from .info import FilmInfo
from .opening import local, open_film, pictures_of, require_av

_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Part:
    """A piece of a film that `SegmentWriter` wrote."""

    path: Path
    times: Sequence[int]  # of its frames in order of presentation, in the film's time base
    delay: int = 0  # frames to decode ahead
    last: int = 0  # how long its last frame is shown, in the film's time base; 0 = as long as most


def join(
    parts: Sequence[Part], info: FilmInfo, encoder: Encoder, source: Path | None, span: Span, target: Path
) -> None:
    """Join parts into one film, with the sound and subtitles of `source` within `span`; None = neither.

    Raises WriteError for what the container cannot hold, OSError for what the disk refuses.
    """
    av = require_av()
    try:
        with ExitStack() as stack:
            original = stack.enter_context(open_film(av, source)) if source is not None else None
            output = stack.enter_context(_create(av, target, original))
            first = stack.enter_context(av.open(local(parts[0].path)))
            video = output.add_stream_from_template(first.streams.video[0], opaque=True)
            video.time_base = info.time_base
            if encoder.codec == "hevc" and target.suffix.lower() in QUICKTIME:
                video.codec_context.codec_tag = "hvc1"  # which Apple's players require
            # Closed after an error too, whose traceback would keep a part open: Windows removes no open file.
            pictures = stack.enter_context(closing(_pictures(av, parts, info, encoder, span, video)))
            packets: list[Iterator[tuple[float, Any]]] = [pictures]
            if original is not None:
                packets.append(copied(original, output, span, target.suffix.lower()))
                _describe(original, output, video, whole=span.end is None and span.start == info.start)
            for _, packet in heapq.merge(*packets, key=lambda pair: pair[0]):
                output.mux(packet)
    except av.error.FFmpegError as error:
        if error.errno in _REFUSED:
            raise OSError(error.errno, error.strerror) from error
        raise WriteError(f"{target.suffix} cannot hold this film: {error.strerror or error}") from error


def _create(av: Any, target: Path, original: Any) -> Any:
    """Open the result, a container that begins with its index, so that a browser plays it while it loads."""
    suffix, options = target.suffix.lower(), {}
    if suffix in QUICKTIME:
        # Phones' place, camera and local time have keys of their own, which are written only with the second flag.
        phone = original is not None and any(key.startswith("com.") for key in original.metadata)
        options["movflags"] = "faststart+use_metadata_tags" if phone else "faststart"
    return av.open(local(target), "w", format=CONTAINERS[suffix], options=options)


def _pictures(
    av: Any, parts: Sequence[Part], info: FilmInfo, encoder: Encoder, span: Span, stream: Any
) -> Generator[tuple[float, Any], None, None]:
    """Yield (seconds, packet) of all parts, at the film's own times."""
    rate, delay = nominal_rate(info, encoder), max(part.delay for part in parts)
    step, shift = max(1, round(1 / (info.rate * info.time_base))), round(span.start / info.time_base)
    end = parts[-1].times[-1] + (parts[-1].last or step)
    if span.end is not None:
        end = max(parts[-1].times[-1] + 1, min(end, round(span.end / info.time_base)))
    # A packet's decoding time is the presentation time of the frame `delay` before it.
    due = deque(parts[0].times[0] - step * n for n in range(delay, 0, -1))
    for part in parts:
        due.extend(part.times)
        with av.open(local(part.path)) as container:
            own = container.streams.video[0]
            for packet in container.demux(own):
                if packet.pts is None:
                    continue
                index = round(packet.pts * own.time_base * rate)
                shown = part.times[index]
                following = part.times[index + 1] if index + 1 < len(part.times) else shown + step
                following = end if shown == parts[-1].times[-1] else following
                packet.stream, packet.time_base = stream, info.time_base
                packet.pts, packet.dts, packet.duration = shown - shift, due.popleft() - shift, following - shown
                yield float(packet.dts * info.time_base), packet


def _describe(original: Any, output: Any, video: Any, whole: bool) -> None:
    """Copy the film's metadata, and of the whole film its chapters."""
    output.metadata.update({k: v for k, v in original.metadata.items() if k.lower() not in NOT_COPIED})
    own = pictures_of(original)[0].metadata
    video.metadata.update({k: v for k, v in own.items() if k.lower() not in (*NOT_COPIED, "rotate", "duration")})
    if whole and hasattr(output, "set_chapters") and (chapters := original.chapters()):
        output.set_chapters(chapters)
