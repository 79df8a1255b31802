"""What a film is, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from ...types import Pixels
from .planes import Coding, Plane, to_rgb

VIDEO_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".m2ts",
    ".wmv",
    ".3gp",
    ".flv",
)
"""Suffixes of what is taken for a film."""

WRITABLE_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
"""Suffixes of what a film is written to."""


@dataclass(frozen=True)
class FilmInfo:
    """A film's picture, upright."""

    width: int  # pixels as they are stored
    height: int
    rate: Fraction  # frames a second, on the average where it varies
    time_base: Fraction  # seconds that a timestamp counts
    frames: int  # about; 0 = unknown
    codec: str  # as ffmpeg calls it: h264, hevc, vp9
    pix_fmt: str  # of the planes, as ffmpeg calls it
    coding: Coding
    aspect: Fraction = Fraction(1)  # a pixel's width over its height
    tags: tuple[int, int, int, int] = (0, 2, 2, 2)  # range, matrix, primaries, transfer: ffmpeg's numbers, as declared
    quarters: int = 0  # by which stored frames were turned against the clock
    start: Fraction = Fraction(0)  # seconds: the time that a player shows as 0
    others: tuple[str, ...] = ()  # codecs of the sound and subtitles
    notes: tuple[str, ...] = field(default=())  # what is not kept, each for a user to read


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame, upright."""

    pts: int  # in the film's time base; rises from frame to frame
    planes: tuple[Plane, ...]
    coding: Coding

    def rgb(self) -> Pixels:
        """[H, W, 3], uint8 or uint16; made anew at every call."""
        return to_rgb(self.planes, self.coding)
