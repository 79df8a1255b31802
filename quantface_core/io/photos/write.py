"""Write photos, pages and animations atomically, in the format of the file's suffix."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...bit_depth import check_pixels
from ...errors import ImageError, UsageError
from ..atomic import atomic_path
from . import exif
from .encoders import encode_jpeg, encode_png, encode_tiff, encode_webp
from .limits import check_sides, check_sizes
from .photo import JPEG, PNG, TIFF, WEBP, WRITABLE, Pages, Photo, Size, Warnings


def write_photo(photo: Photo, path: str | Path) -> Warnings:
    """Write a photo atomically in the format of its suffix; return warnings about what that cannot hold.

    JPEG is written at quality 95 without chroma subsampling, WebP losslessly; 16-bit images keep their depth as PNG or
    TIFF and become 8-bit in other formats; JPEG drops alpha. Raises ImageError, WriteError, UsageError.
    """
    if isinstance(path, Photo):  # as OpenCV takes them
        raise UsageError("the photo comes before the path: write_photo(photo, path)")
    return write_pages(Pages((photo,)), path)


def _check_photo(photo: object) -> None:
    if not isinstance(photo, Photo):
        raise ImageError(f"what is written is a Photo, such as Photo(pixels), got {type(photo).__name__}")
    check_pixels(photo.pixels)
    if photo.alpha is not None and (photo.alpha.shape, photo.alpha.dtype) != (
        photo.pixels.shape[:2],
        photo.pixels.dtype,
    ):
        kinds = " and ".join(f"{plane.dtype} {list(plane.shape)}" for plane in (photo.pixels, photo.alpha))
        raise ImageError(f"pixels and alpha do not match ({kinds}): photo.with_pixels(pixels) resizes its alpha")


def check_output(sizes: Sequence[Size], animated: bool, suffix: str) -> None:
    """Raise ImageError for pages or frames that `write_pages` refuses to write to a file of this suffix: too large."""
    check_sizes(sizes)
    check_sides(sizes[: _count(len(sizes), animated, suffix)], suffix)


def _count(count: int, animated: bool, suffix: str) -> int:
    """How many of a file's pages or frames the format of a suffix holds."""
    return count if suffix.lower() in ((*PNG, *WEBP) if animated else TIFF) else min(count, 1)


def write_pages(pages: Pages, path: str | Path) -> Warnings:
    """Write pages as TIFF, an animation as PNG or WebP; other formats get only the first image, with a warning.

    Raises and returns warnings like `write_photo`.
    """
    path = Path(path)
    try:
        encoded, warnings = encode_pages(pages, path.suffix)
        with atomic_path(path) as temporary:
            temporary.write_bytes(encoded)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    return warnings


def encode_pages(pages: Pages, suffix: str) -> tuple[bytes, Warnings]:
    """The bytes that `write_pages` writes to a file of this suffix, and its warnings. Raises ImageError."""
    if not isinstance(suffix, str):
        raise ImageError(f'a suffix is text, such as ".jpg", got {suffix!r:.60}')
    suffix = suffix.lower()
    if suffix not in WRITABLE:
        raise ImageError(f"cannot write {suffix or 'a file without suffix'}; use {', '.join(WRITABLE)}")
    if not pages.photos:
        raise ImageError("there is no page to write")
    animated, warnings = bool(pages.durations), []
    for photo in pages.photos:
        _check_photo(photo)
    check_output([photo.size for photo in pages.photos], animated, suffix)
    count = _count(len(pages.photos), animated, suffix)
    if count < len(pages.photos):
        what = "frame" if animated else "page"
        warnings.append(f"only the first of {len(pages.photos)} {what}s is written: {suffix} cannot hold them")
    photos = tuple(
        replace(photo, exif=photo.exif and exif.with_dimensions(photo.exif, *photo.size))
        for photo in pages.photos[:count]
    )
    encoders = ((JPEG, encode_jpeg), (PNG, encode_png), (WEBP, encode_webp), (TIFF, encode_tiff))
    encode = next(encoder for suffixes, encoder in encoders if suffix in suffixes)
    try:
        encoded, encoder_warnings = encode(replace(pages, photos=photos))
    except OSError as error:
        raise ImageError(f"cannot write ({error.strerror or error})") from error
    except MemoryError:
        raise ImageError("out of memory") from None
    except (ValueError, struct.error) as error:  # larger than the format allows
        raise ImageError(f"cannot write ({error})") from error
    return encoded, (*warnings, *encoder_warnings)
