"""TIFF's tag directories (IFDs), which EXIF consists of too: read and written with their values byte for byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Literal

Buffer = bytes | mmap
Order = Literal["<", ">"]
"""`<` (Intel, II) or `>` (Motorola, MM), as `struct` and NumPy name them."""

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
_UNITS = {1: "B", 2: "B", 3: "H", 4: "L", 5: "LL", 6: "b", 7: "B", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d"}
_UNITS |= {13: "L", 16: "Q", 17: "q", 18: "Q"}
_MOST_ENTRIES = 4096  # of a directory; a damaged count would make the whole file one
CHILDREN = (34665, 34853, 40965)  # tags whose value is a directory: EXIF, GPS, interoperability


@dataclass(frozen=True)
class Entry:
    """A tag's value."""

    kind: int  # TIFF's type code
    data: bytes  # in the directory's byte order

    def numbers(self, order: Order) -> tuple[Any, ...]:
        """The value as numbers; a rational is two."""
        unit = _UNITS[self.kind]
        count = len(self.data) // struct.calcsize("<" + unit)
        return struct.unpack(order + unit * count, self.data)


@dataclass
class Directory:
    """Tags, and the child directories that some of them point to."""

    order: Order
    entries: dict[int, Entry] = field(default_factory=dict)
    children: dict[int, Directory] = field(default_factory=dict)
    where: dict[int, int] = field(default_factory=dict)  # tag -> offset of its value, where that is stored inline
    link: int = 0  # offset of the next directory's offset

    def numbers(self, tag: int, default: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """A tag's value as numbers; `default` where it is missing."""
        return self.entries[tag].numbers(self.order) if tag in self.entries else default

    def number(self, tag: int, default: int = 0) -> int:
        """The first number of an integer tag; `default` where it is missing."""
        return int(next(iter(self.numbers(tag)), default))

    def content(self, tag: int) -> bytes | None:
        """A tag's bytes; None where it is missing."""
        return self.entries[tag].data if tag in self.entries else None

    def patch(self, data: bytearray, tag: int, value: int) -> None:
        """Overwrite an inline integer in `data`, from which this directory was read; too large a value is clamped."""
        kind = self.entries[tag].kind if tag in self.where else None
        if kind in (SHORT, LONG):
            size = {SHORT: 0xFFFF, LONG: 0xFFFFFFFF}[kind]
            struct.pack_into(self.order + {SHORT: "H", LONG: "L"}[kind], data, self.where[tag], min(value, size))

    def put(self, tag: int, kind: int, *numbers: int) -> None:
        """Set a tag to numbers of the type code `kind`; a rational takes two."""
        unit = _UNITS[kind]
        self.entries[tag] = Entry(kind, struct.pack(self.order + unit * (len(numbers) // len(unit)), *numbers))


@contextmanager
def mapped(path: Path) -> Iterator[mmap]:
    """Memory-map a file that is not empty: only the parts accessed are read.

    Raises OSError; ValueError for an empty file.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        yield data


def order_of(data: Buffer) -> Order:
    """The byte order in a TIFF header. Raises ValueError for any other start."""
    orders: dict[bytes, Order] = {b"II": "<", b"MM": ">"}
    order = orders.get(data[:2])
    if order is None or struct.unpack(order + "H", data[2:4])[0] not in (42, 43):
        raise ValueError("no TIFF header")
    return order


def directories(data: Buffer) -> Iterator[Directory]:
    """Yield the directories of a classic TIFF, a BigTIFF or EXIF, in the order of their chain.

    Tags that lie outside the data, are of an unknown type, or with those before them hold more than the data, are left
    out. Raises ValueError or struct.error for a header or directory that cannot be read.
    """
    order = order_of(data)
    big = struct.unpack(order + "H", data[2:4])[0] == 43
    (place,) = struct.unpack(order + "Q", data[8:16]) if big else struct.unpack(order + "L", data[4:8])
    seen: set[int] = set()
    budget = _ByteBudget(len(data))
    while place and place not in seen:
        seen.add(place)
        directory, following = _read(data, place, order, big, CHILDREN, budget)
        yield directory
        place = following


@dataclass
class _ByteBudget:
    """The bytes that all values together may still take: only hostile files exceed their own size."""

    left: int

    def take(self, count: int) -> bool:
        """Take `count` bytes if that many are left; return whether they were."""
        enough = count <= self.left
        self.left -= count * enough
        return enough


def _read(
    data: Buffer, place: int, order: Order, big: bool, children: tuple[int, ...], budget: _ByteBudget
) -> tuple[Directory, int]:
    head, entry, field_size = ("Q", "HHQ8s", 8) if big else ("H", "HHL4s", 4)
    try:
        (count,) = struct.unpack_from(order + head, data, place)
        if not 0 < count <= _MOST_ENTRIES:
            raise ValueError(f"a directory of {count} tags")
        size = struct.calcsize(order + entry)
        start = place + struct.calcsize(order + head)
        rows = list(struct.iter_unpack(order + entry, data[start : start + count * size]))
    except struct.error:
        raise ValueError("its directory lies outside the file") from None
    directory = Directory(order)
    for i, (tag, kind, values, inline) in enumerate(rows):
        length = values * struct.calcsize("<" + _UNITS.get(kind, ""))
        if not length or length > len(data) or tag in directory.entries:
            continue
        (there,) = struct.unpack(order + ("Q" if big else "L"), inline)
        if length > field_size and (there + length > len(data) or not budget.take(length)):
            continue
        value = inline[:length] if length <= field_size else bytes(data[there : there + length])
        directory.entries[tag] = Entry(kind, value)
        if length <= field_size:
            directory.where[tag] = start + (i + 1) * size - field_size
        if tag in children:
            # A child may not point to another directory of its own kind: no cycles.
            try:
                child, _ = _read(
                    data, directory.number(tag), order, big, tuple(c for c in children if c != tag), budget
                )
            except ValueError:
                continue
            directory.children[tag] = child
    directory.link = start + count * size
    following = data[directory.link : directory.link + field_size]
    return directory, struct.unpack(order + ("Q" if big else "L"), following)[0] if len(following) == field_size else 0


def pack(directory: Directory, place: int, following: int = 0) -> bytes:
    """Serialise a classic directory, with its values and children, for the even file offset `place`.

    `following` is the offset of the next directory; 0 = none.
    """
    order = directory.order
    tags = sorted(directory.entries.keys() | directory.children.keys())
    tags = [tag for tag in tags if tag not in CHILDREN or tag in directory.children]
    rows, tail = [], b""
    end = place + 2 + 12 * len(tags) + 4
    for tag in tags:
        if tag in directory.children:
            row = struct.pack(order + "HHLL", tag, LONG, 1, end + len(tail))
            tail += pack(directory.children[tag], end + len(tail))
        else:
            entry = directory.entries[tag]
            count = len(entry.data) // struct.calcsize("<" + _UNITS[entry.kind])
            row = struct.pack(order + "HHL", tag, entry.kind, count)
            if len(entry.data) <= 4:
                row += entry.data.ljust(4, b"\0")
            else:
                row += struct.pack(order + "L", end + len(tail))
                tail += entry.data
        tail += b"\0" * (len(tail) % 2)
        rows.append(row)
    return struct.pack(order + "H", len(tags)) + b"".join(rows) + struct.pack(order + "L", following) + tail


def header(order: Order, first: int = 8) -> bytes:
    """The 8-byte header of a classic TIFF whose first directory is at offset `first`."""
    return {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HL", 42, first)


def chosen(directory: Directory, tags: set[int]) -> Directory:
    """A directory with only the given tags, and the children among them."""
    kept = {tag: entry for tag, entry in directory.entries.items() if tag in tags}
    return Directory(directory.order, kept, {t: c for t, c in directory.children.items() if t in tags})
