"""Tag directories of hostile files."""

from __future__ import annotations

import struct

from quantface_core.io.photos.ifd import directories, header


def test_tags_that_share_their_bytes_hold_no_more_than_the_file() -> None:
    """4,000 tags of the whole file each would be as many copies of it: 200 MB for this one."""
    count, rest = 4000, 50_000
    rows = b"".join(struct.pack("<HHLL", 0x8000 + tag, 7, rest, 8) for tag in range(count))
    data = header("<") + struct.pack("<H", count) + rows + struct.pack("<L", 0) + bytes(rest)
    (directory,) = directories(data)
    held = sum(len(entry.data) for entry in directory.entries.values())
    assert rest <= held <= len(data)
