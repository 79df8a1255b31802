"""Write photos, pages and animations atomically, in the format of the file's suffix."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

from ...errors import ImageError
from ..atomic import atomic_path
from . import exif
from .encoders import encode_jpeg, encode_png, encode_tiff, encode_webp
from .photo import JPEG, PNG, TIFF, WEBP, WRITABLE, Pages, Photo, Warnings, check_size


def write_photo(photo: Photo, path: Path) -> Warnings:
    """Write a photo atomically in the format of its suffix; return warnings about what that cannot hold.

    JPEG is written at quality 95 without chroma subsampling, WebP losslessly; 16-bit images keep their depth as PNG or
    TIFF and become 8-bit in other formats; JPEG drops alpha. Raises ImageError, WriteError.
    """
    return write_pages(Pages((photo,)), path)


def write_pages(pages: Pages, path: Path) -> Warnings:
    """Write pages as TIFF, an animation as PNG or WebP; other formats get only the first image, with a warning.

    Raises and returns warnings like `write_photo`.
    """
    path = Path(path)  # callers may give a string
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise ImageError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use {', '.join(WRITABLE)}")
    photos, warnings = list(pages.photos), []
    supports_sequence = suffix in TIFF if not pages.durations else suffix in (*PNG, *WEBP)
    if len(photos) > 1 and not supports_sequence:
        what = "frame" if pages.durations else "page"
        warnings.append(f"only the first of {len(photos)} {what}s is written: {path.suffix} cannot hold them")
        photos = photos[:1]
    for i, photo in enumerate(photos):
        height, width = photo.pixels.shape[:2]
        check_size(width, height)
        photos[i] = replace(photo, exif=photo.exif and exif.with_dimensions(photo.exif, width, height))
    encoders = ((JPEG, encode_jpeg), (PNG, encode_png), (WEBP, encode_webp), (TIFF, encode_tiff))
    encode = next(encoder for suffixes, encoder in encoders if suffix in suffixes)
    try:
        encoded, encoder_warnings = encode(replace(pages, photos=tuple(photos)))
        with atomic_path(path) as temporary:
            temporary.write_bytes(encoded)
    except OSError as error:
        raise ImageError(f"{path}: cannot write ({error.strerror or error})") from error
    except MemoryError:
        raise ImageError(f"{path}: out of memory") from None
    except (ValueError, struct.error) as error:  # larger than the format allows
        raise ImageError(f"{path}: cannot write ({error})") from error
    return (*warnings, *encoder_warnings)
