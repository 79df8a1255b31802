"""Camera data (EXIF) as cameras write them, and their tags."""

from __future__ import annotations

from typing import Any

from quantface_core.io.photos import exif
from quantface_core.io.photos.ifd import Directory, Entry, header, pack


def camera(order: Any = "<", orientation: int = 1) -> bytes:
    """EXIF with what is easily lost: names beyond ASCII, a maker's note, a size, an unknown tag, a thumbnail."""
    first, sub, thumbnail = Directory(order), Directory(order), Directory(order)
    first.entries[0x013B] = Entry(2, "Jürgen Müller".encode() + b"\0")
    first.put(0x0112, 3, orientation)
    first.entries[0xC4A5] = Entry(7, b"PrintIM\x000300")
    sub.entries[0x9003] = Entry(2, b"2026:11:26 10:00:00\0")
    sub.entries[0x927C] = Entry(7, b"maker's own" * 9)
    sub.put(0xA002, 4, 32)
    sub.put(0xA003, 4, 24)
    first.children[0x8769] = sub
    thumbnail.put(0x0201, 4, 0)
    place = 8 + len(pack(first, 8))
    return header(order) + pack(first, 8, place) + pack(thumbnail, place)


def tags(blob: bytes | None) -> dict[int, bytes]:
    assert blob
    directory = exif.parse(blob)
    assert directory
    found = {tag: entry.data for tag, entry in directory.entries.items()}
    for child in directory.children.values():
        found |= {tag: entry.data for tag, entry in child.entries.items()}
    return found
