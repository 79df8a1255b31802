"""A film's properties and its frames, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from ...types import Pixels
from .planes import Coding, Plane, to_rgb

# fmt: off
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".3gp", ".flv",
    ".3g2", ".asf", ".divx", ".dv", ".f4v", ".m2v", ".mod", ".mxf", ".ogv", ".qt", ".tod", ".vob",
)
# fmt: on
"""Suffixes of what is read as a film."""


@dataclass(frozen=True)
class FilmInfo:
    """A film's video stream, upright."""

    width: int  # pixels as they are stored
    height: int
    rate: Fraction  # frames per second, the average where it varies
    time_base: Fraction  # seconds per timestamp unit
    frames: int  # approximate; 0 = unknown
    codec: str  # as ffmpeg calls it: h264, hevc, vp9
    pix_fmt: str  # of the planes, as ffmpeg calls it
    coding: Coding
    aspect: Fraction = Fraction(1)  # a pixel's width over its height
    tags: tuple[int, int, int, int] = (0, 2, 2, 2)  # range, matrix, primaries, transfer: ffmpeg's numbers, as declared
    quarters: int = 0  # counter-clockwise quarter turns applied to stored frames
    start: Fraction = Fraction(0)  # seconds: the time that a player shows as 0
    others: tuple[str, ...] = ()  # codecs of the sound and subtitles
    notes: tuple[str, ...] = field(default=())  # what is lost, a line each, for the user
    hdr10: str = ""  # the mastering display and the light levels, as x265 takes them; "" = not declared
    mirrored: bool = False  # whether stored frames are mirrored, left to right, before they are turned


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame, upright."""

    pts: int  # in the film's time base; rises from frame to frame
    planes: tuple[Plane, ...]
    coding: Coding
    duration: int = 0  # in the film's time base; 0 = unknown

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels as stored."""
        height, width = self.planes[0].shape
        return width, height

    def rgb(self) -> Pixels:
        """[H, W, 3], uint8 or uint16; recomputed at every call."""
        return to_rgb(self.planes, self.coding)
