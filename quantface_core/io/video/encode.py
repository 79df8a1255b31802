"""Encode frames with a film's own codec, at a quality without visible loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError, WriteError
from .info import FilmInfo
from .opening import local, require_av
from .planes import Plane

_QSCALE = 118  # FFmpeg's lambda units per quantizer step (FF_QP2LAMBDA)


@dataclass(frozen=True)
class Encoder:
    """How a codec is encoded."""

    codec: str  # as ffmpeg calls it
    name: str  # of ffmpeg's encoder
    crf: int | None  # default quality, smaller = better; None = the codec has no such scale, or is lossless
    options: tuple[tuple[str, str], ...] = ()
    by_quantizer: bool = False  # the quality is a quantizer scale, 1 to 31


# Psychovisual decisions, trellis and strong adaptive quantization suit stills; on steadied faces they flicker. With
# them on, x264 quantizes chroma more finely by default; the offset makes up for that.
_STEADY_X264 = "psy=0:trellis=0:aq-strength=0.5:chroma-qp-offset=-3"
# The same output on every machine. x264's AVX-512 kernels for its macroblock tree read uninitialised memory, so that no
# two runs need agree, and an encoder's default number of threads depends on the machine.
_SAME_X264 = "cpu-independent=1:threads=4"

ENCODERS = {
    encoder.codec: encoder
    for encoder in (
        Encoder("h264", "libx264", 14, (("preset", "medium"), ("x264-params", f"{_STEADY_X264}:{_SAME_X264}"))),
        Encoder("hevc", "libx265", 19, (("preset", "medium"), ("x265-params", "log-level=error:frame-threads=2"))),
        Encoder("vp8", "libvpx", 8, (("b", "40M"), ("deadline", "good"), ("cpu-used", "2"), ("threads", "4"))),
        Encoder("vp9", "libvpx-vp9", 22, (("b", "0"), ("deadline", "good"), ("cpu-used", "3"), ("threads", "4"))),
        Encoder("av1", "libsvtav1", 22, (("preset", "7"),)),
        Encoder("mpeg4", "mpeg4", 2, by_quantizer=True),
        Encoder("mpeg2video", "mpeg2video", 2, by_quantizer=True),
        Encoder("mjpeg", "mjpeg", 2, by_quantizer=True),
        Encoder("prores", "prores_ks", None),
        Encoder("ffv1", "ffv1", None),
    )
}
"""Encoders by codec name. A film in any other codec becomes H.264."""

_ODD = ("vp8", "vp9", "ffv1", "mjpeg", "mpeg4", "mpeg2video", "prores")  # take odd widths and heights
_OTHERWISE = "h264"
_INTO = {".webm": ("vp9", "vp8", "av1"), ".avi": ("mpeg4", "h264", "mjpeg", "ffv1")}
_RGB = ("gbrp", "bgr0", "rgb24")
_SUBSAMPLED = {"444": ("444", "422", "420"), "422": ("422", "420", "444"), "420": ("420", "422", "444")}
_MPEG2_RATES = tuple(Fraction(r) for r in ("24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60"))


def choose_encoder(info: FilmInfo, suffix: str, codec: str | None = None, crf: int | None = None) -> Encoder:
    """Choose the film's own codec unless another is asked for; one that its container cannot hold is replaced.

    Raises UsageError for a codec that is unknown or does not go into the container, or a quality that is out of range.
    """
    if codec is not None and codec not in ENCODERS:
        raise UsageError(f"codec {codec}: choose one of {', '.join(ENCODERS)}")
    allowed = _INTO.get(suffix, tuple(ENCODERS))
    if codec is not None and codec not in allowed:
        raise UsageError(f"codec {codec} does not go into {suffix}: choose one of {', '.join(allowed)}")
    wanted = codec or (info.codec if info.codec in ENCODERS else _OTHERWISE)
    encoder = ENCODERS[wanted if wanted in allowed else allowed[0]]
    if suffix == ".avi" and encoder.codec == "h264":  # AVI stores no order of presentation
        encoder = replace(encoder, options=(*encoder.options, ("bf", "0")))
    if crf is None:
        return encoder
    if encoder.crf is None:
        raise UsageError(f"crf: {encoder.codec} has no such quality scale")
    low, high = (1, 31) if encoder.by_quantizer else (0, 63 if encoder.codec in ("vp8", "vp9", "av1") else 51)
    if not low <= crf <= high:
        raise UsageError(f"crf of {encoder.codec} is a number from {low} to {high}, got {crf}")
    return replace(encoder, crf=crf)


def stored_format(info: FilmInfo, encoder: Encoder) -> str:
    """The pixel format to encode in: the film's own, or the nearest that the encoder supports. Raises UsageError."""
    av = require_av()
    try:
        known = [f.name for f in av.codec.Codec(encoder.name, "w").video_formats or ()]
    except av.codec.codec.UnknownCodecError:
        raise UsageError(f"codec {encoder.codec}: this build of PyAV has no {encoder.name}") from None
    wanted = info.pix_fmt
    if encoder.codec == "mjpeg" and f"yuvj{wanted[3:]}" in known and info.coding.full:
        return f"yuvj{wanted[3:]}"
    if wanted in known:
        return wanted
    here = av.video.format.VideoFormat(wanted)
    deep = here.components[0].bits > 8
    if here.is_rgb and encoder.crf is None and (plain := [name for name in _RGB if name in known]):
        return plain[0]
    fine = next((order for part, order in _SUBSAMPLED.items() if part in wanted), _SUBSAMPLED["420"])
    order = [f"yuv{s}p{d}" for d in (("10le", "") if deep else ("", "10le")) for s in fine]
    return next((name for name in order if name in known), known[0])


def stored_size(info: FilmInfo, encoder: Encoder, factor: int = 1) -> tuple[int, int]:
    """Width and height of the encoded film in pixels: even where codec and pixel format need it. Raises UsageError."""
    width, height, coded = info.width * factor, info.height * factor, stored_format(info, encoder)
    if encoder.codec in _ODD:
        return width, height
    return width + width % 2 * ("444" not in coded), height + height % 2 * ("420" in coded)


class SegmentWriter:
    """A part of a film, written to a file of its own that begins with a key frame.

    Frames are only counted; `join` sets their times. Until it is closed the file is incomplete; removing it is up to
    its owner.
    """

    def __init__(self, path: Path, info: FilmInfo, encoder: Encoder, factor: int = 1) -> None:
        """Raises UsageError, WriteError."""
        self._av = require_av()
        self._info, self._coded = info, stored_format(info, encoder)
        self.delay = 0  # frames that a player has to decode ahead
        self.count = 0  # frames added
        self._rate = nominal_rate(info, encoder)
        self._written = 0
        self._size = stored_size(info, encoder, factor)
        self._path = path
        with self._errors(f"{path}: cannot write"):
            self._container = self._av.open(local(path), "w", format="matroska")
            self._stream = self._container.add_stream(encoder.name, rate=self._rate, options=_options(encoder, info))
        context = self._stream.codec_context
        context.width, context.height = self._size
        context.pix_fmt, context.time_base = self._coded, 1 / self._rate
        context.thread_type = "FRAME"  # slices, as many as there are cores, would change the output
        context.flags |= self._av.codec.context.Flags.global_header
        context.sample_aspect_ratio = info.aspect
        # Images of a folder are coded as every player assumes for an untagged film.
        self._tags = (1, 1, 1, 1) if info.coding.matrix == "rgb" and self._coded not in _RGB else info.tags
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = self._tags

    def close(self) -> None:
        """Finish the file. Raises WriteError."""
        with self._errors(f"{self._path}: cannot write"):
            try:
                self._mux(self._encoded(None) if self.count else [])
            finally:
                self._container.close()

    def add(self, planes: Sequence[Plane]) -> None:
        """Encode the next frame, upright and at its final size. Raises WriteError."""
        frame = self._frame(planes)
        frame.pts, frame.time_base = self.count, 1 / self._rate
        packets = self._encoded(frame)
        self.count += 1
        self._mux(packets)

    def _encoded(self, frame: Any) -> list[Any]:
        with self._errors(f"{self._stream.codec_context.name} cannot encode this film"):
            return list(self._stream.encode(frame))

    def _mux(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            index = round(packet.pts * packet.time_base * self._rate)
            self.delay = max(self.delay, self._written - index)
            self._written += 1
            with self._errors(f"{self._path}: cannot write"):
                self._container.mux(packet)

    @contextmanager
    def _errors(self, failure: str) -> Iterator[None]:
        """Turn FFmpeg's errors inside the context into a WriteError that begins with `failure`."""
        try:
            yield
        except self._av.error.FFmpegError as error:
            raise WriteError(f"{failure} ({error.strerror or error})") from None

    def _frame(self, planes: Sequence[Plane]) -> Any:
        """Planes as PyAV's frame; for a codec that needs even sizes, their last column or row is repeated."""
        (width, height), info = self._size, self._info
        across, down = width - planes[0].shape[1], height - planes[0].shape[0]
        frame = self._av.VideoFrame(width, height, info.pix_fmt)
        ordered = [planes[1], planes[2], planes[0]] if info.pix_fmt.startswith("gbr") else planes
        for place, plane in zip(frame.planes, ordered, strict=True):
            rows = np.frombuffer(place, plane.dtype).reshape(place.height, -1)
            grown = np.pad(plane, ((0, down), (0, across)), mode="edge") if across or down else plane
            rows[:, : place.width] = grown[: place.height, : place.width]
        frame.color_range, frame.colorspace = info.tags[:2]
        if frame.format.name != self._coded and self._tags != info.tags:
            ranges = {"src_color_range": "JPEG", "dst_color_range": "MPEG"}
            frame = frame.reformat(format=self._coded, dst_colorspace="ITU709", **ranges)
        elif frame.format.name != self._coded:
            frame = frame.reformat(format=self._coded)
        frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = self._tags
        return frame


def nominal_rate(info: FilmInfo, encoder: Encoder) -> Fraction:
    """Frames per second as the encoder counts them; true times are set when parts are joined."""
    rate = info.rate.limit_denominator(1001) or Fraction(25)
    rate = min(max(rate, Fraction(1)), Fraction(240))
    if encoder.codec == "mpeg2video":
        return min(_MPEG2_RATES, key=lambda known: abs(known - rate))
    return rate


def _options(encoder: Encoder, info: FilmInfo) -> dict[str, str]:
    options = dict(encoder.options)
    if encoder.by_quantizer:
        options |= {"flags": "+qscale", "global_quality": str(_QSCALE * (encoder.crf or 2))}
    elif encoder.crf is not None:
        options["crf"] = str(encoder.crf)
    if encoder.codec == "hevc" and info.hdr10:
        options["x265-params"] += f":{info.hdr10}"
    if encoder.codec == "mjpeg" and not info.coding.full:
        options["strict"] = "unofficial"
    return options
