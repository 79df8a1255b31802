"""A film as a folder of numbered images."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ...errors import ImageError, UsageError
from ...types import Pixels
from ..photos import READABLE, WRITABLE, Photo, read_photo, write_photo
from .info import FilmInfo
from .planes import Coding, Plane

_NUMBER = re.compile(r"(\d+)(?=\.[^.]*$)")


@dataclass(frozen=True, eq=False)
class NumberedFrame:
    """One image of the folder."""

    pts: int  # its position
    photo: Photo
    coding: Coding
    duration: int = 1  # until the next

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Red, green and blue, each [H, W]."""
        return tuple(np.ascontiguousarray(self.photo.pixels[..., i]) for i in range(3))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.photo.size

    def rgb(self) -> Pixels:
        """[H, W, 3], uint8 or uint16."""
        return self.photo.pixels


class NumberedFrames:
    """The images of a folder whose names end in numbers, in numeric order; all of one size and bit depth."""

    damaged = 0

    def __init__(self, folder: Path, rate: Fraction) -> None:
        """Raises UsageError for a folder without such images, ImageError for a first one that cannot be read."""
        self.path = folder
        pictures = [p for p in folder.iterdir() if p.suffix.lower() in READABLE and not p.name.startswith(".")]
        found = [(int(number[1]), path) for path in pictures if (number := _NUMBER.search(path.name))]
        self.paths = [path for _, path in sorted(found)]
        if not self.paths:
            raise UsageError(f"{folder}: no pictures whose names end in a number, such as frame_0001.png")
        names = Counter(map(self.name, range(len(self.paths))))
        name, count = names.most_common(1)[0]
        if count > 1:
            raise UsageError(f"{folder}: the results of {count} pictures would be called {name}: keep one of them")
        first = read_photo(self.paths[0])
        height, width = first.pixels.shape[:2]
        bits = np.iinfo(first.pixels.dtype).bits
        coding = Coding("rgb", True, bits)
        self.transparent = first.alpha is not None
        pix_fmt = "gbrp" if bits == 8 else "gbrp16le"
        self.info = FilmInfo(width, height, rate, 1 / rate, len(self.paths), "pictures", pix_fmt, coding)

    def fingerprint(self) -> str:
        """A quick identification of the folder's images: a hash of their names, sizes and modification times."""
        found = [(path.name, path.stat()) for path in self.paths]
        listing = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in found)
        return hashlib.sha256(listing.encode()).hexdigest()

    def frames(self, start: int | None = None) -> Iterator[NumberedFrame]:
        """Yield all images, or those from a position on. Raises ImageError, also for another size or bit depth."""
        info = self.info
        for number in range(start or 0, len(self.paths)):
            photo = read_photo(self.paths[number])
            shape, bits = photo.pixels.shape, np.iinfo(photo.pixels.dtype).bits
            if shape[:2] != (info.height, info.width) or bits != info.coding.bits:
                raise ImageError(
                    f"{self.paths[number]}: {shape[1]}x{shape[0]} at {bits} bits, "
                    f"but the film is {info.width}x{info.height} at {info.coding.bits}"
                )
            yield NumberedFrame(number, photo, info.coding)

    def name(self, number: int) -> str:
        """The file name of an image's result."""
        path = self.paths[number]
        return path.name if path.suffix.lower() in WRITABLE else f"{path.stem}.png"


def write_numbered(frame: NumberedFrame, pixels: Pixels, path: Path) -> None:
    """Write an image as its source is stored, but with other pixels, enlarged or not. Raises ImageError, WriteError."""
    write_photo(frame.photo.with_pixels(pixels), path)
