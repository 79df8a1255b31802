"""The contents of an image file, as plain values, and which files are images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ...types import Pixels
from .png import Chunk

JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
PNG, TIFF, WEBP = (".png", ".apng"), (".tif", ".tiff"), (".webp",)
WRITABLE = (*JPEG, *PNG, *WEBP, *TIFF)
FORMATS = {"jpg": JPEG, "png": PNG, "webp": WEBP, "tif": TIFF}
"""The formats that are written, by name, and their suffixes."""

HEIF, JXL = (".heic", ".heif", ".hif"), (".jxl",)  # read through Pillow plugins
_OTHERS = (".mpo", ".gif", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".bmp", ".dib", ".tga", ".qoi", ".psd")
READABLE = (*WRITABLE, *_OTHERS, ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", *HEIF, *JXL)
"""Suffixes that a folder is searched for; a file named explicitly is recognised by its content."""

RAW = (".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".raf", ".rw2", ".orf", ".pef", ".srw", ".raw", ".3fr")
"""Suffixes of camera raw files, which have to be developed first."""

XMP_START = b"http://ns.adobe.com/xap/1.0/\0"
"""How a JPEG's XMP segment begins."""

Warnings = tuple[str, ...]
"""What of its photo a file lacks, a line each, for the user."""

Size = tuple[int, int]
"""Width and height, in pixels."""


@dataclass(frozen=True)
class Metadata:
    """Metadata beside pixels, profile and EXIF; each output keeps what its format can hold."""

    dpi: tuple[float, float] | None = None  # dots per inch, horizontal and vertical
    xmp: bytes | None = None  # the packet, with the orientation already reset
    iptc: bytes | None = None  # IPTC records as one IIM block
    comment: bytes | None = None  # of JPEG or GIF
    png: tuple[Chunk, ...] = ()  # PNG chunks, unchanged: text, meaning of colours, resolution


@dataclass(frozen=True, eq=False)  # arrays have no plain equality
class Photo:
    """A decoded photo, upright."""

    pixels: Pixels  # [H, W, 3] RGB
    alpha: NDArray[np.uint8] | NDArray[np.uint16] | None = None  # [H, W], same dtype; None = opaque
    gray: bool = False  # stored as one channel, and written as one
    icc: bytes | None = None  # colour profile, passed through
    exif: bytes | None = None  # camera data, with the orientation already applied and reset
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()  # what reading had to change or leave out, a line each, for the user

    @property
    def size(self) -> Size:
        """Width and height."""
        height, width = self.pixels.shape[:2]
        return width, height

    def with_pixels(self, pixels: Pixels) -> Photo:
        """The photo with other pixels [H', W', 3], to whose size its alpha is resized (bilinear)."""
        alpha = self.alpha
        if alpha is not None and alpha.shape != pixels.shape[:2]:
            alpha = cv2.resize(alpha, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return replace(self, pixels=pixels, alpha=alpha)


@dataclass(frozen=True)
class Pages:
    """All images of a file: one photo, the pages of a document, or the frames of an animation."""

    photos: tuple[Photo, ...]
    durations: tuple[float, ...] = ()  # milliseconds per frame; empty = no animation
    loops: int = 0  # times it is shown; 0 = for ever
