"""Colour information in AVIF and JPEG 2000 boxes that Pillow does not read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

from .ifd import Buffer

_Span = tuple[int, int]  # offsets of the first byte and past the last

_MOST_PROPERTIES = 1 << 15  # they are numbered in 15 bits
_BY_ICC = (b"\2", b"\3")  # JPEG 2000's colour specification methods with a profile: restricted, and any


def jp2_profile(data: Buffer) -> bytes | None:
    """The ICC profile of a JPEG 2000 file; None where it has none."""
    header = _first(data, (0, len(data)), b"jp2h")
    for kind, (start, end) in _boxes(data, header):
        if kind == b"colr" and data[start : start + 1] in _BY_ICC and end - start > 3:
            return bytes(data[start + 3 : end])
    return None


def avif_coding(data: Buffer) -> tuple[int, int] | None:
    """The ITU-T H.273 codes (primaries, transfer) of an AVIF file's primary image; None where it states none."""
    start, end = _first(data, (0, len(data)), b"meta")
    meta = (start + 4, end)
    properties = _first(data, meta, b"iprp")
    known = list(islice(_boxes(data, _first(data, properties, b"ipco")), _MOST_PROPERTIES))
    try:
        item = _primary(data, _first(data, meta, b"pitm"))
        for kind, (start, end) in _boxes(data, properties):
            for number in _associated(bytes(data[start:end]), item) if kind == b"ipma" else ():
                coding = _nclx(data, *known[number - 1]) if 0 < number <= len(known) else None
                if coding:
                    return coding
    except struct.error:  # a truncated box
        pass
    return None


def _boxes(data: Buffer, within: _Span) -> Iterator[tuple[bytes, _Span]]:
    """Yield type and content of sibling boxes, up to the first that is damaged."""
    place, end = within
    while place + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, place)
        start = place + 8
        if length == 1 and start + 8 <= end:  # it does not fit 32 bits
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        behind = place + length if length else end
        if behind < start:
            return
        yield kind, (start, min(behind, end))
        place = behind


def _first(data: Buffer, within: _Span, wanted: bytes) -> _Span:
    """The content of the first box of a type; an empty span where there is none."""
    return next((content for kind, content in _boxes(data, within) if kind == wanted), (0, 0))


def _primary(data: Buffer, content: _Span) -> int:
    """The item number that a `pitm` box names. Raises struct.error."""
    box = bytes(data[content[0] : content[1]])
    return int(struct.unpack_from(">I" if box[:1] > b"\0" else ">H", box, 4)[0])


def _associated(box: bytes, item: int) -> Iterator[int]:
    """Yield the numbers, from 1, of the properties that an `ipma` box assigns to an item. Raises struct.error."""
    version, flags, count = struct.unpack_from(">B3sI", box)
    head, number, mask = ">IB" if version else ">HB", ">H" if flags[2] & 1 else ">B", 0x7FFF if flags[2] & 1 else 0x7F
    place = 8
    for _ in range(count):
        found, properties = struct.unpack_from(head, box, place)
        place += struct.calcsize(head)
        for _ in range(properties):
            if found == item:
                yield struct.unpack_from(number, box, place)[0] & mask
            place += struct.calcsize(number)


def _nclx(data: Buffer, kind: bytes, content: _Span) -> tuple[int, int] | None:
    start, end = content
    if kind != b"colr" or data[start : start + 4] != b"nclx" or end - start < 8:
        return None
    primaries, transfer = struct.unpack_from(">HH", data, start + 4)
    return primaries, transfer
