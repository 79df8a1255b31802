"""Write TIFF with everything a photo carries."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from numpy.typing import NDArray

from . import tiff
from .ifd import ASCII, BYTE, LONG, RATIONAL, SHORT, UNDEFINED, Directory, Entry, header, pack

_STRIP = 1 << 20  # bytes of a strip, about


def write(pages: list[tuple[NDArray[Any], Directory]], colors: list[int]) -> bytes:
    """Return a Deflate TIFF of pages [H, W, C] uint8 or uint16; `colors` (1 or 3) of C are gray or RGB, one more is
    alpha.

    Each page comes with further tags, all in one byte order. Raises ValueError for two byte orders, struct.error beyond
    4 GB.
    """
    order = pages[0][1].order
    body = bytearray(header(order))
    link = 4  # offset at which the next directory's offset is written
    for (pixels, tags), count in zip(pages, colors, strict=True):
        if tags.order != order:
            raise ValueError("pages of two byte orders")
        directory = _stored(body, pixels, tags, count)
        body += b"\0" * (len(body) % 2)
        struct.pack_into(order + "L", body, link, len(body))
        link = len(body) + 2 + 12 * len(directory.entries.keys() | directory.children.keys())
        body += pack(directory, len(body))
    return bytes(body)


def _stored(body: bytearray, pixels: NDArray[Any], tags: Directory, colors: int) -> Directory:
    """Append a page's strips to the file; return its directory."""
    height, width, channels = pixels.shape
    rows = max(1, _STRIP // (width * channels * pixels.dtype.itemsize))
    places, lengths = [], []
    for top in range(0, height, rows):
        strip = pixels[top : top + rows]
        less = strip.copy()
        less[:, 1:] -= strip[:, :-1]
        packed = zlib.compress(less.astype(pixels.dtype.newbyteorder(tags.order)).tobytes())
        places.append(len(body))
        lengths.append(len(packed))
        body += packed
    page = Directory(tags.order, dict(tags.entries), dict(tags.children))
    page.put(tiff.WIDTH, LONG, width)
    page.put(tiff.HEIGHT, LONG, height)
    page.put(tiff.BITS, SHORT, *[pixels.dtype.itemsize * 8] * channels)
    page.put(tiff.COMPRESSION, SHORT, tiff.DEFLATE)
    page.put(tiff.PHOTOMETRIC, SHORT, tiff.RGB if colors == 3 else tiff.BLACK_IS_ZERO)
    page.put(tiff.STRIPS, LONG, *places)
    page.put(tiff.SAMPLES, SHORT, channels)
    page.put(tiff.ROWS, LONG, min(rows, height))
    page.put(tiff.STRIP_BYTES, LONG, *lengths)
    page.put(tiff.PLANAR, SHORT, 1)
    page.put(tiff.PREDICTOR, SHORT, tiff.HORIZONTAL)
    if channels > colors:
        page.put(tiff.EXTRA, SHORT, 2)
    return page


def put_resolution(directory: Directory, dpi: tuple[float, float]) -> None:
    """Set the dots per inch, to a thousandth."""
    for tag, value in zip((tiff.X_DPI, tiff.Y_DPI), dpi, strict=True):
        directory.put(tag, RATIONAL, round(value * 1000), 1000)
    directory.put(tiff.DPI_UNIT, SHORT, 2)


def put_bytes(directory: Directory, tag: int, value: bytes | None) -> None:
    """Set a tag of bytes (XMP, IPTC, ICC profile), unless `value` is empty."""
    if value:
        directory.entries[tag] = Entry(BYTE if tag == tiff.XMP else UNDEFINED, value)


def put_text(directory: Directory, tag: int, value: bytes) -> None:
    """Set a text tag, ending in NUL."""
    directory.entries[tag] = Entry(ASCII, value.rstrip(b"\0") + b"\0")
