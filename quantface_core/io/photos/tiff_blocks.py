"""Where a TIFF's strips or tiles lie, and a TIFF made of some of them, for a decoder to read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from ...errors import ImageError
from . import tiff
from .exif import ORIENTATION
from .ifd import CHILDREN, LONG, Buffer, Directory, chosen, header, pack

_UNTOLD = 1 << 32  # bytes, more than any block has: its length is unknown


def single_page(data: Buffer, directory: Directory) -> io.BytesIO:
    """A page as a file of its own, without its orientation. Raises ImageError and ValueError."""
    tags = chosen(directory, directory.entries.keys() - {ORIENTATION, tiff.XMP, tiff.SUB_IFDS, *CHILDREN})
    if directory.number(tiff.COMPRESSION) == tiff.OLD_JPEG:  # whose tags hold file offsets
        place = len(data) + len(data) % 2
        whole = (header(tags.order, place), data[8:], b"\0" * (place - len(data)), pack(tags, place))
        return io.BytesIO(b"".join(whole))
    return with_blocks(data, tags, *blocks_of(directory))


def blocks_of(directory: Directory) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The offsets of a page's strips or tiles, and bounds on their bytes. Raises ImageError where it has none."""
    tiled = tiff.TILES in directory.entries
    places, lengths = (
        directory.numbers(t) for t in ((tiff.TILES, tiff.TILE_BYTES) if tiled else (tiff.STRIPS, tiff.STRIP_BYTES))
    )
    if not places:
        raise ImageError("damaged: it does not say where its pixels lie")
    stated = lengths if len(lengths) == len(places) else (0,) * len(places)
    least = 0
    if directory.number(tiff.COMPRESSION, tiff.UNCOMPRESSED) == tiff.UNCOMPRESSED:  # declared lengths may be wrong
        height = directory.number(tiff.HEIGHT)
        rows = directory.number(tiff.TILE_HEIGHT) if tiled else min(directory.number(tiff.ROWS, height), height)
        bits = max(directory.numbers(tiff.BITS, (1,))) * directory.number(tiff.SAMPLES, 1)
        least = rows * -(-directory.number(tiff.TILE_WIDTH if tiled else tiff.WIDTH) * bits // 8)
    return places, tuple(max(length, least) or _UNTOLD for length in stated)  # some writers leave them 0


def with_blocks(data: Buffer, tags: Directory, places: Sequence[int], lengths: Sequence[int]) -> io.BytesIO:
    """A TIFF of one page with the blocks at `places` in `data`; each ends where the next begins, if not before.

    `tags` are those of the page; their offsets and lengths are set here. The blocks keep their order, so that reading
    past the end of one finds the same bytes as in `data`.
    """
    if not places or not 0 <= min(places) <= max(places) < len(data):
        raise ImageError("damaged: its pixels are not where it says")
    starts = sorted(set(places))
    room = dict(zip(starts, np.diff([*starts, len(data)]).tolist(), strict=True))
    lengths = [min(length, room[place]) for place, length in zip(places, lengths, strict=True)]
    longest = dict.fromkeys(starts, 0)
    for place, length in zip(places, lengths, strict=True):
        longest[place] = max(longest[place], length)
    place_tag, length_tag = (
        (tiff.TILES, tiff.TILE_BYTES) if tiff.TILES in tags.entries else (tiff.STRIPS, tiff.STRIP_BYTES)
    )
    tags.put(length_tag, LONG, *lengths)
    tags.put(place_tag, LONG, *[0] * len(places))  # for now: they follow from the directory's length
    ends = list(accumulate(longest.values(), initial=8 + len(pack(tags, 8))))
    if ends[-1] >= 1 << 32:
        raise ImageError("larger than 4 GB")
    moved = dict(zip(starts, ends[:-1], strict=True))
    tags.put(place_tag, LONG, *(moved[place] for place in places))
    file = io.BytesIO()
    file.write(header(tags.order) + pack(tags, 8))
    for start, length in longest.items():
        file.write(data[start : start + length])
    file.seek(0)
    return file
