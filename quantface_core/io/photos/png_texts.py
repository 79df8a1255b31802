"""PNG texts and profiles larger than Pillow accepts, which rejects the whole image for them."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from PIL import PngImagePlugin

from ...errors import ImageError
from .png import PROFILE, RAW_EXIF, SIGNATURE, TEXT, XMP_KEY, chunks

_HIDDEN = (*TEXT, PROFILE)
_MOST_BYTES = 64 << 20  # of a decompressed text or profile: a larger one is an attack
_NAMES = {PROFILE: "colour profile", XMP_KEY: "XMP", RAW_EXIF.encode(): "EXIF"}


def without_texts(path: Path) -> tuple[BinaryIO, dict[str, Any]] | None:
    """A PNG without its texts and profile, and what Pillow would have put of them into `Image.info`.

    That is the profile, XMP, and EXIF as text; `png.kept_chunks` reads the other texts. None for any other file, and
    where Pillow accepts the texts. Raises ImageError for content that decompresses to more than 64 MB.
    """
    if not _exceeds_pillow(path):
        return None
    data = path.read_bytes()
    file, kept, found = io.BytesIO(data), [SIGNATURE], dict[bytes, tuple[bytes, bool]]()
    for kind, length in chunks(file):
        place = file.tell()
        if kind in _HIDDEN:
            key, content, is_compressed = _parsed(kind, data[place : place + length])
            found[PROFILE if kind == PROFILE else key] = content, is_compressed
        else:
            kept.append(data[place - 8 : place + length + 4])
    said = {key: _unpacked(key, *found[key]) for key in _NAMES if key in found}
    info: dict[str, Any] = {"icc_profile": said.get(PROFILE), "xmp": said.get(XMP_KEY)}
    raw = said.get(RAW_EXIF.encode())
    info[RAW_EXIF] = raw and raw.decode("latin-1")
    return io.BytesIO(b"".join(kept)), {name: value for name, value in info.items() if value}


def _exceeds_pillow(path: Path) -> bool:
    """Whether a PNG has a compressed text or profile, or texts together, that Pillow rejects as too large."""
    left = PngImagePlugin.MAX_TEXT_MEMORY
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return False
        for kind, length in chunks(file):
            if kind not in _HIDDEN:
                continue
            if length > left:
                return True
            _, content, is_compressed = _parsed(kind, file.read(length))
            if is_compressed:
                content, is_larger = _decompressed(content, PngImagePlugin.MAX_TEXT_CHUNK)
                if is_larger:
                    return True
            left -= len(content) if kind in TEXT else 0
            if left < 0:
                return True
    return False


def _parsed(kind: bytes, content: bytes) -> tuple[bytes, bytes, bool]:
    """A chunk's keyword, its text or profile as stored, and whether that is compressed."""
    key, _, rest = content.partition(b"\0")
    if kind == b"tEXt":
        return key, rest, False
    if kind == b"iTXt":  # two bytes on compression, a language, the keyword in it
        return key, rest[2:].split(b"\0", 2)[-1], rest[:1] != b"\0"
    return key, rest[1:], True


def _decompressed(content: bytes, most: int) -> tuple[bytes, bool]:
    """At most `most` bytes, and whether there are more; nothing where it is damaged, which Pillow passes over too."""
    stream = zlib.decompressobj()
    try:
        return stream.decompress(content, most), bool(stream.unconsumed_tail)
    except zlib.error:
        return b"", False


def _unpacked(key: bytes, content: bytes, is_compressed: bool) -> bytes:
    if not is_compressed:
        return content
    whole, is_larger = _decompressed(content, _MOST_BYTES)
    if is_larger:
        raise ImageError(f"its {_NAMES[key]} decompresses to more than {_MOST_BYTES >> 20} MB: save it without")
    return whole
