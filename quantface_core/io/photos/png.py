"""PNG chunks, and 16-bit PNG images, whose colours Pillow cannot hold."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError

Chunk = tuple[bytes, bytes]
"""Type and content."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT = (b"tEXt", b"zTXt", b"iTXt")
MEANING = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"sBIT")  # which colours the values stand for
XMP_KEY = b"XML:com.adobe.xmp"
RAW_EXIF = "Raw profile type exif"
PROFILE = b"iCCP"
_KEPT = (*TEXT, *MEANING, b"pHYs")
_ELSEWHERE = (XMP_KEY + b"\0", RAW_EXIF.encode() + b"\0")  # texts that are written as chunks of their own
_HEADER = 33  # bytes of PNG before its second chunk: the signature, and IHDR
_COMMON_MEANINGS = {(b"gAMA", struct.pack(">I", 45455))}
_SRGB = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_COMMON_MEANINGS |= {(b"cHRM", _SRGB)}
_MOST_KEPT = 64 << 20  # bytes of a chunk: a larger one is no text


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield each chunk's type and length in file order; the file is then at its content, and may be moved."""
    place = len(SIGNATURE)
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, length
        place += 12 + length
        if kind == b"IEND":
            return


def kept_chunks(path: Path) -> tuple[Chunk, ...]:
    """The chunks on colours, resolution and text, to be written back unchanged, except for XMP and EXIF."""
    kept = []
    with path.open("rb") as file:
        for kind, length in chunks(file):
            if kind in _KEPT and length <= _MOST_KEPT:
                content = file.read(length)
                if len(content) == length and not content.startswith(_ELSEWHERE):
                    kept.append((kind, content))
    return tuple(kept)


def color_chunk_names(found: Iterable[Chunk]) -> list[str]:
    """The names of the chunks that give colours another meaning than sRGB, such as gAMA or cICP."""
    found = list(found)
    if any(kind == b"sRGB" for kind, _ in found) and not any(kind == b"cICP" for kind, _ in found):
        return []
    names = {k for k, c in found if k in MEANING and k not in (b"sRGB", b"sBIT") and (k, c) not in _COMMON_MEANINGS}
    return sorted(name.decode() for name in names)


def header(path: Path) -> tuple[int, int]:
    """Bits per channel and colour type; (8, 2) for a truncated file."""
    with path.open("rb") as file:
        start = file.read(26)
    return (start[24], start[25]) if len(start) == 26 else (8, 2)


def read_16_bits(path: Path) -> NDArray[np.uint16] | None:
    """Decode to uint16: [H, W] gray, [H, W, 3] RGB or [H, W, 4] RGBA; None where OpenCV does not return 16 bits."""
    data = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if data is None or data.dtype != np.uint16:
        return None
    return data if data.ndim == 2 else np.ascontiguousarray(data[..., (2, 1, 0, 3)[: data.shape[2]]])


def transparent_16_bits(path: Path, pixels: NDArray[np.uint16]) -> NDArray[np.uint16] | None:
    """The alpha [H, W] of a 16-bit image [H, W, C] whose tRNS chunk makes one colour transparent; None without one."""
    with path.open("rb") as file:
        for kind, length in chunks(file):
            if kind == b"tRNS" and length == 2 * pixels.shape[2]:
                clear = np.frombuffer(file.read(length), ">u2")
                return np.where((pixels == clear).all(axis=2), 0, 0xFFFF).astype(np.uint16)
            if kind == b"IDAT":
                break
    return None


def encode(pixels: NDArray[Any]) -> bytes:
    """Encode [H, W, 1 to 4] uint16 as PNG: gray, gray and alpha, RGB, RGBA; every row uses the Sub filter."""
    height, width, channels = pixels.shape
    rows = np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8).reshape(height, width, 2 * channels)
    left = rows.copy()
    left[:, 1:] -= rows[:, :-1]
    filtered = np.empty((height, 1 + width * 2 * channels), np.uint8)
    filtered[:, 0] = 1  # Sub
    filtered[:, 1:] = left.reshape(height, -1)
    start = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    pieces = [(b"IHDR", start), (b"IDAT", zlib.compress(filtered.tobytes(), 5)), (b"IEND", b"")]
    return SIGNATURE + b"".join(packed(piece) for piece in pieces)


def packed(chunk: Chunk) -> bytes:
    """A chunk serialised with its length and CRC."""
    kind, content = chunk
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(encoded: bytes, added: Iterable[Chunk]) -> bytes:
    """Insert chunks right after a PNG's header. Raises ImageError when `encoded` is not PNG."""
    if not encoded.startswith(SIGNATURE):
        raise ImageError("no PNG was written")
    return b"".join([encoded[:_HEADER], *(packed(chunk) for chunk in added), encoded[_HEADER:]])


def profile_chunk(icc: bytes) -> Chunk:
    """An ICC profile as an iCCP chunk."""
    return PROFILE, b"ICC Profile\0\0" + zlib.compress(icc)


def text_chunk(key: bytes, text: bytes) -> Chunk:
    """UTF-8 text as an uncompressed iTXt chunk."""
    return b"iTXt", key + b"\0\0\0\0\0" + text


def iptc_chunk(block: bytes) -> Chunk:
    """IPTC as ImageMagick and ExifTool store it in PNG: Photoshop's resource in hexadecimal."""
    lines = block.hex()
    wrapped = "\n".join(lines[i : i + 72] for i in range(0, len(lines), 72))
    raw = f"\niptc\n{len(block):8}\n{wrapped}\n".encode()
    return b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(raw)


def from_raw(text: str) -> bytes:
    """Decode a profile that ImageMagick stored as text: its kind, its length, then hexadecimal; empty if damaged."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""
