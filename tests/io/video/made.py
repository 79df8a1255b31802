"""Films made by tests: a small moving picture, any codec, with or without sound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from quantface_core.io.video import FilmReader, Part, SegmentWriter, Span, check_container, choose_encoder, join

RATE = 25


def picture(number: int, width: int, height: int) -> np.ndarray:
    """[H, W, 3]: a gradient that moves, and a bright corner, top left."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = (np.arange(width) * 100 // width + number * 2) % 200
    pixels[..., 1], pixels[..., 2] = 90, (np.arange(height) * 120 // height)[:, None]
    pixels[: height // 4, : width // 4] = 230
    return pixels


def make(
    path: Path,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    steps: Sequence[int] = (512,) * 30,
    sound: bool | str = False,
    layout: str = "mono",
    rotation: int = 0,
    mirrored: bool = False,
    tags: tuple[int, int] | None = None,
    aspect: Fraction | None = None,
    pictures: Sequence[np.ndarray] | None = None,
    options: dict[str, str] | None = None,
) -> list[Fraction]:
    """Write a film with a frame every so many 1/12800 s; returns the frames' times in seconds.

    `sound` may name an encoder. `mirrored`: after it is turned.
    """
    steady = len(set(steps)) == 1
    base = Fraction(steps[0], 12800) if steady else Fraction(1, 12800)
    times, now = [], 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = base
        if tags:
            stream.codec_context.color_range, stream.codec_context.colorspace = tags
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        tone = None
        if sound:
            usual = "libopus" if path.suffix == ".webm" else "aac"
            tone = container.add_stream(sound if isinstance(sound, str) else usual, rate=48000)
            tone.layout = layout
        for number, step in enumerate(steps):
            pixels = picture(number, *size) if pictures is None else pictures[number]
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = now // (steps[0] if steady else 1), base
            times.append(Fraction(now, 12800))
            now += step
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            length = 960 if path.suffix == ".webm" else 1024
            for number in range(-(-now * 48000 // 12800 // length)):
                wave = (np.sin(np.arange(length) * 0.05) * 8000).astype(np.int16)[None]
                piece = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
                piece.pts, piece.sample_rate, piece.time_base = number * length, 48000, Fraction(1, 48000)
                container.mux(tone.encode(piece))
            container.mux(tone.encode(None))
    return times


def remux(source: Path, target: Path, last: int | None = None, **more: Any) -> None:
    """Copy a film; `last` = the duration of the packet shown last, in its time base."""
    metadata, attachment = more.pop("metadata", {}), more.pop("attachment", None)
    with av.open(str(source)) as film, av.open(str(target), "w", **more) as output:
        ways = {s.index: output.add_stream_from_template(s, opaque=True) for s in film.streams}
        if attachment:
            output.add_attachment(*attachment)
        output.metadata.update(metadata)
        packets = [packet for packet in film.demux() if packet.dts is not None]
        if last is not None:
            max(packets, key=lambda packet: packet.pts).duration = last
        for packet in packets:
            packet.stream = ways[packet.stream.index]
            output.mux(packet)


def seconds_of(path: Path) -> float:
    """How long a film is, by its container."""
    with av.open(str(path)) as film:
        return film.duration / 1e6


def packet_times(path: Path, kind: str) -> list[tuple[float, int]]:
    """(seconds, bytes) of every packet of the sound, or of the pictures, in the order of their times."""
    with av.open(str(path)) as container:
        streams = getattr(container.streams, kind)
        packets = [p for p in container.demux(streams[0]) if p.pts is not None] if streams else []
        return sorted((float(p.pts * p.time_base), p.size) for p in packets)


SUBTITLES = ((Fraction(1, 5), Fraction(2, 5), b"Good evening."), (Fraction(9, 10), Fraction(3, 10), b"Good night."))
CHAPTERS = ((0.0, 0.6, "One"), (0.6, 1.2, "Two"))


def with_subtitles(path: Path, target: Path) -> None:
    """A film copied to Matroska, with `SUBTITLES` and `CHAPTERS`."""
    text = target.with_suffix(".srt")
    lines = [
        f"{n}\n{_srt(at)} --> {_srt(at + long)}\n{said.decode()}\n" for n, (at, long, said) in enumerate(SUBTITLES, 1)
    ]
    text.write_text("\n".join(lines))
    with av.open(str(path)) as film, av.open(str(text)) as spoken, av.open(str(target), "w") as output:
        output.set_chapters(
            [
                {
                    "id": n,
                    "start": int(a * 1000),
                    "end": int(b * 1000),
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": t},
                }
                for n, (a, b, t) in enumerate(CHAPTERS, 1)
            ]
        )
        ways = [(source, output.add_stream_from_template(source.streams[0], opaque=True)) for source in (film, spoken)]
        ways[1][1].metadata["language"] = "eng"
        for source, stream in reversed(ways):
            for packet in source.demux(source.streams[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)


def _srt(seconds: Fraction) -> str:
    return f"00:00:{int(seconds):02d},{int(seconds % 1 * 1000):03d}"


def subtitles_of(path: Path) -> list[tuple[Fraction, Fraction, bytes, str]]:
    """(begin, duration, words, language) of each, in seconds."""
    with av.open(str(path)) as film:
        packets = [p for stream in film.streams.subtitles for p in film.demux(stream) if p.pts is not None]
        return [
            (p.pts * p.time_base, p.duration * p.time_base, bytes(p), p.stream.metadata["language"]) for p in packets
        ]


def chapters_of(path: Path) -> list[tuple[float, float, str]]:
    """(begin, end, title) of each, in seconds."""
    with av.open(str(path)) as film:
        return [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"])
            for c in film.chapters()
        ]


def again(source: Path, target: Path, span: Span | None = None, codec: str | None = None) -> FilmReader:
    """Decoded, encoded in parts of 12 frames and joined."""
    reader = FilmReader(source)
    info = reader.info
    encoder = choose_encoder(info, target.suffix, codec)
    assert not check_container(target.suffix, info)
    frames, parts = list(reader.frames()), []
    for start in range(0, len(frames), 12):
        path = target.with_name(f"{target.name}.{start}.mkv")
        some = frames[start : start + 12]
        writer = SegmentWriter(path, info, encoder)
        for frame in some:
            writer.add(frame.planes)
        writer.close()
        parts.append(Part(path, [frame.pts for frame in some], writer.delay, some[-1].duration))
    join(parts, info, encoder, source, span or Span(info.start), target)
    return FilmReader(target)
