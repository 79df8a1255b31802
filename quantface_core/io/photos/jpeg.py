"""What phones append to the image of a JPEG file."""

from __future__ import annotations

import re
import struct

from .ifd import Buffer

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # neither stuffed data nor a restart
_END = 0xD9
_PICTURE, _VIDEO = b"\xff\xd8\xff", b"ftyp"
_PADDING = b"\0\r\n "


def describe_appended(data: Buffer, pictures: bool) -> str | None:
    """A note on what follows the image, or None; with `pictures`, further images alone are worth one too."""
    rest = bytes(data[_end(data) :]).strip(_PADDING)
    video = _VIDEO in rest
    if not video and not (rest and pictures):
        return None
    picture = pictures and rest.startswith(_PICTURE)
    names = ["another picture (such as a gain map)"] * picture + ["a video (motion photo)"] * video
    return f"{' and '.join(names) or f'{len(rest)} bytes'} after the image: left out"


def _end(data: Buffer) -> int:
    """The offset past the image's end marker; the file's end where it has none."""
    place = 2
    while found := _MARKER.search(data, place):
        place = found.end()
        if data[place - 1] == _END:
            return place
        if place + 2 <= len(data):
            place += struct.unpack_from(">H", data, place)[0]
    return len(data)
