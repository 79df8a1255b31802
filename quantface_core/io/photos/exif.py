"""EXIF (camera data) that stays valid for another image: upright, without its thumbnail, otherwise byte for byte."""

from __future__ import annotations

import struct

from .ifd import CHILDREN, SHORT, Directory, chosen, directories, header, pack

PREFIX = b"Exif\0\0"
ORIENTATION = 0x0112
_WIDTH, _HEIGHT = 0xA002, 0xA003  # of the image, in the EXIF directory
_MAKER_NOTE = 0x927C
_EXIF = CHILDREN[0]

# Descriptive tags of a TIFF's first directory, where they lie among those on how its pixels are stored: descriptions,
# camera, dates, authors, resolution, page, rating, Windows' titles.
_DESCRIPTIVE = {269, 270, 271, 272, 274, 282, 283, 285, 296, 297, 305, 306, 315, 316, 318, 319, 532, 0x4746, 0x4749}
_DESCRIPTIVE |= {33432, 33434, 33437, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F, *CHILDREN[:2]}


def upright(blob: bytes) -> bytes | None:
    """Return EXIF with its orientation reset in place and its thumbnail, which would show the old image, unlinked.

    Everything else keeps its offset, since maker notes count from the start. None when `blob` is not EXIF.
    """
    directory = parse(blob)
    if directory is None:
        return None
    data = bytearray(blob.removeprefix(PREFIX))
    directory.patch(data, ORIENTATION, 1)
    data[directory.link : directory.link + 4] = b"\0" * 4
    return bytes(data)


def with_dimensions(blob: bytes, width: int, height: int) -> bytes:
    """Return EXIF with its dimensions, where it states them, replaced, and without the prefix that only JPEG needs."""
    data, directory = bytearray(blob.removeprefix(PREFIX)), parse(blob)
    if directory is not None and _EXIF in directory.children:
        directory.children[_EXIF].patch(data, _WIDTH, width)
        directory.children[_EXIF].patch(data, _HEIGHT, height)
    return bytes(data)


def orientation(directory: Directory) -> int:
    """The orientation, 1 to 8; a missing or invalid one counts as 1, upright."""
    values = directory.numbers(ORIENTATION)
    return int(values[0]) if values and values[0] in range(1, 9) else 1


def descriptive(directory: Directory) -> Directory:
    """A directory without the tags on how its pixels are stored, which do not apply to another file."""
    return chosen(directory, _DESCRIPTIVE)


def from_tiff(directory: Directory) -> bytes | None:
    """The descriptive tags of a TIFF's directory as EXIF, its orientation reset; None where it has none."""
    kept = descriptive(directory)
    if ORIENTATION in kept.entries:
        kept.put(ORIENTATION, SHORT, 1)
    return header(kept.order) + pack(kept, 8) if kept.entries or kept.children else None


def parse(blob: bytes) -> Directory | None:
    """The first directory of EXIF, with its children; None when `blob` is not EXIF."""
    try:
        return next(directories(blob.removeprefix(PREFIX)), None)
    except (struct.error, ValueError, OverflowError):
        return None


def truncate(blob: bytes, limit: int) -> bytes | None:
    """Return EXIF without its maker note and unreferenced bytes if it then fits `limit` bytes; else None."""
    directory = parse(blob)
    if directory is None:
        return None
    if _EXIF in directory.children:
        directory.children[_EXIF].entries.pop(_MAKER_NOTE, None)
    shorter = header(directory.order) + pack(directory, 8)
    return shorter if len(shorter) <= limit else None
