"""Pictures of 16 bits a channel, through OpenCV, since Pillow has no 16-bit colour.

OpenCV writes no colour profile and no camera data (into PNG from 4.12 on): they are put in here, or an editor would
take a wide picture's colours for sRGB's.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin

from ..errors import ImageError

_HEADER = 33  # bytes of PNG before its second chunk: the signature, and IHDR
_UNDEFINED = 7  # TIFF's type for bytes that mean nothing to it
_INTER_COLOR_PROFILE = 34675  # behind every tag that OpenCV writes, as a directory's order wants it


def has_16_bits(path: Path, image: Image.Image) -> bool:
    """Whether a PNG or TIFF stores 16 bits a channel, told without decoding it."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24:] == b"\x10"  # IHDR's bit depth
    return image.format == "TIFF" and 16 in image.tag_v2.get(ExifTags.Base.BitsPerSample, ())  # type: ignore[attr-defined]


def read_16_bits(path: Path) -> NDArray[np.uint16] | None:
    """[H, W] gray, [H, W, 3] BGR or [H, W, 4] BGRA; None where OpenCV does not give 16 bits either."""
    data = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    return data if data is not None and data.dtype == np.uint16 else None


def write_16_bits(path: Path, data: NDArray[Any], icc: bytes | None, exif: bytes | None) -> None:
    """Write a picture laid out as `read_16_bits` gives it, as PNG or TIFF; TIFF takes no camera data.

    Raises ImageError.
    """
    done, encoded = cv2.imencode(path.suffix, data)
    if not done:
        raise ImageError(f"{path}: OpenCV could not encode the picture")
    written = encoded.ravel().data
    if path.suffix.lower() == ".png":
        path.write_bytes(b"".join([written[:_HEADER], _chunks(icc, exif), written[_HEADER:]]))
    else:
        path.write_bytes(written)
        if icc:
            _add_to_tiff(path, icc)


def _chunks(icc: bytes | None, exif: bytes | None) -> bytes:
    written = io.BytesIO()
    if icc:
        PngImagePlugin.putchunk(written, b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    if exif:
        PngImagePlugin.putchunk(written, b"eXIf", exif.removeprefix(b"Exif\0\0"))
    return written.getvalue()


def _add_to_tiff(path: Path, icc: bytes) -> None:
    """Append the profile, and the directory once more, with an entry for it."""
    with path.open("r+b") as file:
        order = "<" if file.read(4)[:2] == b"II" else ">"
        (start,) = struct.unpack(order + "I", file.read(4))
        file.seek(start)
        (count,) = struct.unpack(order + "H", file.read(2))
        entries = file.read(12 * count)
        place = file.seek(0, io.SEEK_END) + 1 & ~1  # directories and values lie at even places
        file.seek(place)
        file.write(icc + b"\0" * (len(icc) % 2))
        directory = file.tell()
        file.write(struct.pack(order + "H", count + 1) + entries)
        file.write(struct.pack(order + "HHIII", _INTER_COLOR_PROFILE, _UNDEFINED, len(icc), place, 0))
        file.seek(4)
        file.write(struct.pack(order + "I", directory))
