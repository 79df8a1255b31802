"""What a picture file holds, as plain values, and which files are pictures."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError
from ...types import Pixels
from .png import Chunk

JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
PNG, TIFF, WEBP = (".png", ".apng"), (".tif", ".tiff"), (".webp",)
WRITABLE = (*JPEG, *PNG, *WEBP, *TIFF)
HEIF, JXL = (".heic", ".heif", ".hif"), (".jxl",)  # with a plugin of Pillow's
_OTHERS = (".mpo", ".gif", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".bmp", ".dib", ".tga", ".qoi", ".psd")
READABLE = (*WRITABLE, *_OTHERS, ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", *HEIF, *JXL)
"""Suffixes that a folder is searched for; a file named by itself is told by its content."""

RAW = (".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".raf", ".rw2", ".orf", ".pef", ".srw", ".raw", ".3fr")
"""Suffixes of cameras' raw files, which have to be developed first."""

XMP_START = b"http://ns.adobe.com/xap/1.0/\0"
"""What a JPEG's segment of XMP begins with."""

MAX_PIXELS = 160_000_000
"""Largest picture read or written: 160 megapixels, above today's cameras, below what exhausts 4 GB."""


@dataclass(frozen=True)
class Metadata:
    """What a file says beside pixels, profile and camera data; each output keeps what it has a place for."""

    dpi: tuple[float, float] | None = None  # dots an inch, across and down
    xmp: bytes | None = None  # the packet, with the orientation already reset
    iptc: bytes | None = None  # IPTC's records as one block (IIM)
    comment: bytes | None = None  # of JPEG or GIF
    png: tuple[Chunk, ...] = ()  # chunks of PNG: text, meaning of the numbers, resolution, as they lay


@dataclass(frozen=True)
class Photo:
    """A decoded photo, upright."""

    pixels: Pixels  # [H, W, 3] RGB
    alpha: NDArray[np.uint8] | NDArray[np.uint16] | None = None  # [H, W], same dtype; None = opaque
    gray: bool = False  # stored as one channel; written back so
    icc: bytes | None = None  # colour profile, passed through
    exif: bytes | None = None  # camera data, with the orientation already applied and reset
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()  # what reading had to change or to leave out, each for a user to read


@dataclass(frozen=True)
class Pages:
    """All pictures of a file: one photo, the pages of a document, or the frames of an animation."""

    photos: tuple[Photo, ...]
    durations: tuple[float, ...] = ()  # milliseconds of every frame; empty = no animation
    loops: int = 0  # times it is shown; 0 = for ever


def check_size(width: int, height: int, count: int = 1) -> None:
    """Raise ImageError for pictures without pixels, or with more than MAX_PIXELS each or four times that in all."""
    if width < 1 or height < 1:
        raise ImageError("the picture has no pixels")
    limit = MAX_PIXELS // 1_000_000
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}x{height} is more than {limit} megapixels; shrink or crop it first")
    if width * height * count > 4 * MAX_PIXELS:
        raise ImageError(f"{count} pictures of {width}x{height} are more than {4 * limit} megapixels; split it first")
