"""Read a film frame by frame, upright, with its own timestamps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ImageError
from .continuity import Continuity
from .deinterlace import deinterlaced
from .hdr import hdr10_of
from .info import FilmInfo, Frame
from .opening import has_times, open_film, pictures_of, require_av
from .planes import Coding, Plane, turned

_MATRICES = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_HDR = {16: "PQ", 18: "HLG"}  # transfers
_ENDS = 1 << 20  # bytes hashed at either end of a file
# Interleaved and full-range (yuvj) pixel formats, and the planar ones that they are read as.
_PLANAR = {
    "nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p", "yuyv422": "yuv422p",
    "uyvy422": "yuv422p", "p010le": "yuv420p10le", "p210le": "yuv422p10le", "yuvj420p": "yuv420p",
    "yuvj422p": "yuv422p", "yuvj444p": "yuv444p", "yuvj440p": "yuv440p", "yuvj411p": "yuv411p",
}  # fmt: skip


class FilmReader:
    """A film file, whose frames can be read repeatedly, from any time on."""

    def __init__(self, path: Path, deinterlace: bool = False) -> None:
        """Open the file and decode its first frame; with `deinterlace`, frames are made progressive.

        Raises ImageError, one line, for a film that cannot be read; QuantFaceError without PyAV.
        """
        self.path, self.damaged = path, 0  # packets that could not be decoded
        self._deinterlace = deinterlace
        self._av = require_av()
        with self._read_errors(), self._opened() as (container, stream):
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise ImageError("no frame of it can be decoded")
            self.info, self._flagged = _info(container, stream, first, deinterlace), bool(first.interlaced_frame)

    def fingerprint(self) -> str:
        """A quick identification of the file: its size, and a hash of its beginning and end. Raises OSError."""
        digest, size = hashlib.sha256(), self.path.stat().st_size
        with self.path.open("rb") as file:
            digest.update(file.read(_ENDS))
            file.seek(max(0, size - _ENDS))
            digest.update(file.read(_ENDS))
        return f"{size} {digest.hexdigest()}"

    def frames(self, start: int | None = None) -> Iterator[Frame]:
        """Yield all frames, or those from timestamp `start` on. Raises ImageError.

        Damaged packets are left out and counted in `damaged`, which every call resets.
        """
        self.damaged = 0
        with self._read_errors(), self._opened() as (container, stream):
            decoded, continuity = self._decoded(container, stream), Continuity()
            first = next(decoded, None) if start is None else self._sought(container, stream, decoded, start)
            if start is not None and first is None:
                yield from (frame for frame in self.frames() if frame.pts >= start)
                return
            last: int | None = None
            base = self.info.time_base
            step = max(1, round(1 / (self.info.rate * base)))
            frames = self._uniform(() if first is None else chain((first,), decoded))
            for frame in deinterlaced(frames, base, self._flagged) if self._deinterlace else frames:
                pts = frame.pts
                if pts is None:
                    pts = 0 if last is None else last + step
                else:
                    continuity.update(0, pts * base, (frame.duration or step) * base)
                    pts += round(continuity.offset / base)
                # Players need increasing times.
                pts = pts if last is None else max(pts, last + 1)
                last = pts
                if start is None or pts >= start:
                    yield Frame(pts, self._planes(frame), self.info.coding, frame.duration or 0)

    def _sought(self, container: Any, stream: Any, decoded: Iterator[Any], start: int) -> Any:
        """The first frame decoded from timestamp `start`, or shortly before; None where the file cannot be sought."""
        needed = start - 1 if self._deinterlace else start  # it is made from the one before, too
        if not has_times(container):
            return None
        try:
            container.seek(needed, stream=stream)
        except self._av.error.FFmpegError:  # before its first frame, as in .flv
            return None
        first = next(decoded, None)
        has_passed = first is None or first.pts is None or first.pts > needed  # the file's index does not help
        return None if has_passed else first

    def _uniform(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Yield frames in the film's pixel format. Raises ImageError where their size changes."""
        info = self.info
        width, height = (info.height, info.width) if info.quarters % 2 else (info.width, info.height)
        for frame in frames:
            if (frame.width, frame.height) != (width, height):
                here = f"{frame.width}x{frame.height}"
                raise ImageError(f"its size changes from {width}x{height} to {here}: split it first")
            yield frame if frame.format.name == info.pix_fmt else frame.reformat(format=info.pix_fmt)

    def _planes(self, frame: Any) -> tuple[Plane, ...]:
        info, planes = self.info, planes_of(frame)
        return tuple(turned(planes, info.quarters, info.mirrored) if info.quarters or info.mirrored else planes)

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yield frames as they are decoded; packets that cannot be are skipped and counted."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._av.error.FFmpegError:
                self.damaged += 1  # nothing more can be read
                return
            try:
                yield from packet.decode()
            except self._av.error.EOFError:
                return
            except self._av.error.FFmpegError:
                self.damaged += 1

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        with open_film(self._av, self.path) as container:
            if not (streams := pictures_of(container)):
                raise ImageError("it has no video stream")
            if streams[0].codec_context is None:
                raise ImageError("its codec is not supported")
            streams[0].thread_type = "AUTO"
            yield container, streams[0]

    @contextmanager
    def _read_errors(self) -> Iterator[None]:
        """Turn every failure into one line of ImageError with the film's name."""
        try:
            yield
        except ImageError as error:
            text = str(error)
            raise ImageError(text if text.startswith(str(self.path)) else f"{self.path}: {text}") from None
        except self._av.error.FileNotFoundError:
            raise ImageError(f"{self.path}: no such file") from None
        except self._av.error.FFmpegError as error:
            raise ImageError(f"{self.path}: not a film that can be read ({error.strerror or error})") from None


def planes_of(frame: Any) -> list[Plane]:
    """A PyAV frame's planes as arrays, uint8 or uint16; of an RGB format in the order red, green, blue."""
    bits = frame.format.components[0].bits
    planes = [
        np.frombuffer(plane, np.uint8 if bits == 8 else "<u2").reshape(plane.height, -1)[:, : plane.width].copy()
        for plane in frame.planes
    ]
    return [planes[2], planes[0], planes[1]] if frame.format.name.startswith("gbr") else planes


def _info(container: Any, stream: Any, first: Any, deinterlace: bool) -> FilmInfo:
    context, notes = stream.codec_context, []
    pix_fmt = _planar(first.format)
    rgb = pix_fmt.startswith("gbr")
    turn, mirrored = _orientation(first)
    width, height = (first.height, first.width) if turn % 2 else (first.width, first.height)
    matrix = "rgb" if rgb else _MATRICES.get(first.colorspace, "bt709" if first.height >= 720 else "bt601")
    full = first.color_range == 2 or first.format.name.startswith("yuvj")
    bits = 8 if first.format.components[0].bits < 8 else _bits(pix_fmt)
    if first.interlaced_frame and not deinterlace:
        notes.append("it is interlaced, so that moving faces show combing: turn on deinterlace")
    if first.color_trc in _HDR:
        notes.append(f"it is HDR ({_HDR[first.color_trc]}): faces are restored in its coded values")
    # The transparency of VP8 and VP9 lies beside the frames, and is not decoded.
    beside = stream.metadata.get("alpha_mode") == "1"
    if beside or first.format.name.startswith(("yuva", "rgba", "bgra", "argb", "abgr")):
        notes.append("transparency is left out")
    aspect = stream.sample_aspect_ratio or Fraction(1)
    aspect = aspect if aspect > 0 else Fraction(1)
    rate = Fraction(stream.average_rate or stream.base_rate or 25)
    seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
    others = [s for s in container.streams if s.type in ("audio", "subtitle") and s.codec_context]
    return FilmInfo(
        width,
        height,
        rate,
        Fraction(stream.time_base),
        stream.frames or round(seconds * rate),
        context.codec.canonical_name,
        pix_fmt,
        Coding(matrix, full, bits),
        1 / aspect if turn % 2 else aspect,
        (2 if full else first.color_range, first.colorspace, first.color_primaries, first.color_trc),
        turn,
        max(Fraction(0), Fraction(container.start_time or 0, 1_000_000)),
        tuple(s.codec_context.codec.canonical_name for s in others),
        tuple(notes),
        hdr10_of(first),
        mirrored,
    )


def _orientation(frame: Any) -> tuple[int, bool]:
    """By how many counter-clockwise quarter turns a frame is shown, and whether it is mirrored before."""
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if not data:
        return 0, False
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].astype(float)  # of FFmpeg's display matrix, y downwards
    mirrored = a * d < b * c
    angle = np.arctan2(b, -a) if mirrored else np.arctan2(-b, a)
    return round(angle / (np.pi / 2)) % 4, bool(mirrored)


def _planar(format_: Any) -> str:
    """The planar format that holds what another format holds."""
    name = str(format_.name)
    if format_.is_rgb or name == "pal8":
        return "gbrp" if max((c.bits for c in format_.components), default=8) <= 8 else "gbrp16le"
    if name.startswith("yuva"):
        return name.replace("yuva", "yuv", 1)
    if name.startswith("ya"):
        return "gray" if name == "ya8" else "gray16le"
    if name.startswith("mono"):
        return "gray"
    return _PLANAR.get(name, name.removesuffix("be") + "le" if name.endswith("be") else name)


def _bits(pix_fmt: str) -> int:
    from av.video.format import VideoFormat

    return int(VideoFormat(pix_fmt).components[0].bits)
