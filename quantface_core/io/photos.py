"""Read and write photos without losing what they carry: depth, alpha, colour profile, EXIF, orientation."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import ImageError
from ..types import Pixels
from .atomic import atomic_path
from .deep import has_16_bits, read_16_bits, write_16_bits

READABLE = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
WRITABLE = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
MAX_PIXELS = 160_000_000
"""Largest picture read or written: 160 megapixels, above today's cameras, below what exhausts 4 GB."""


_DESCRIPTIVE_TAGS = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Orientation,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
    ExifTags.Base.ExifOffset,
    ExifTags.Base.GPSInfo,
}


@dataclass(frozen=True)
class Photo:
    """A decoded photo, upright."""

    pixels: Pixels  # [H, W, 3] RGB
    alpha: NDArray[np.uint8] | NDArray[np.uint16] | None = None  # [H, W], same dtype; None = opaque
    gray: bool = False  # stored as one channel; written back so
    icc: bytes | None = None  # colour profile, passed through
    exif: bytes | None = None  # camera data, with the orientation already applied and reset


def read_photo(path: Path) -> Photo:
    """Read a photo. Raises ImageError, one line, when it is missing, broken, too large or no picture."""
    try:
        with warnings.catch_warnings():
            # The size is checked below with a message of its own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                check_size(image.width, image.height)
                return _decode(path, image)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder, not a picture") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not a picture this can read ({', '.join(READABLE)})") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more than {MAX_PIXELS // 1_000_000} megapixels; shrink or crop it first") from None
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{path}: damaged or incomplete picture ({error})") from error


def check_size(width: int, height: int) -> None:
    """Raise ImageError for a picture without pixels or with more than MAX_PIXELS."""
    if width < 1 or height < 1:
        raise ImageError("the picture has no pixels")
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 1_000_000
        raise ImageError(f"{width}x{height} is more than {limit} megapixels; shrink or crop it first")


def _decode(path: Path, image: Image.Image) -> Photo:
    exif = image.getexif()
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    deep = read_16_bits(path) if has_16_bits(path, image) else None
    icc = image.info.get("icc_profile")
    if deep is not None:
        deep, gray = _upright(deep, orientation), deep.ndim == 2
        pixels = np.repeat(deep[:, :, None], 3, axis=2) if gray else np.ascontiguousarray(deep[:, :, 2::-1])
        alpha = np.ascontiguousarray(deep[:, :, 3]) if not gray and deep.shape[2] == 4 else None
        photo = Photo(pixels, alpha, gray, icc)
    else:
        gray = image.mode in ("L", "LA", "1", "I", "F")
        has_alpha = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
        # CMYK and palette pictures become RGB; their profile describes other channels and is dropped.
        icc = icc if image.mode in ("L", "LA", "RGB", "RGBA") else None
        # Not by ImageOps, which writes the camera data anew, and fails where they are damaged.
        rgba = _upright(np.asarray(image.convert("RGBA" if has_alpha else "RGB")), orientation)
        alpha = np.ascontiguousarray(rgba[..., 3]) if has_alpha else None
        photo = Photo(np.ascontiguousarray(rgba[..., :3]), alpha, gray, icc)
    return replace(photo, exif=_portable_exif(exif))


def _portable_exif(exif: Image.Exif) -> bytes | None:
    """Camera data that stays true in another file: no layout tags of TIFF, orientation reset to upright."""
    for tag in list(exif):
        if tag not in _DESCRIPTIVE_TAGS:
            del exif[tag]
    if ExifTags.Base.Orientation in exif:
        exif[ExifTags.Base.Orientation] = 1
    try:
        return exif.tobytes() if len(exif) else None
    except (struct.error, TypeError, AttributeError, ValueError, OverflowError):
        return None  # data of another kind than its tag says, in a picture that is whole: better without


def _upright(data: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation (1 to 8) to [H, W, ...]."""
    if orientation in (5, 6, 7, 8):
        data = data.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        data = data[:, ::-1]
    if orientation in (3, 4, 7, 8):
        data = data[::-1]
    return np.ascontiguousarray(data)


def write_photo(photo: Photo, path: Path) -> None:
    """Write a photo atomically in the format its suffix names. Raises ImageError.

    JPEG is written at quality 95 without chroma subsampling, WebP without loss; 16-bit pictures keep
    their depth as PNG or TIFF and become 8-bit in other formats; JPEG drops alpha.
    """
    if path.suffix.lower() not in WRITABLE:
        raise ImageError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use {', '.join(WRITABLE)}")
    check_size(photo.pixels.shape[1], photo.pixels.shape[0])
    try:
        with atomic_path(path) as temporary:
            if photo.pixels.dtype == np.uint16 and path.suffix.lower() in (".png", ".tif", ".tiff"):
                _write_16bit(photo, temporary)
            else:
                _write_8bit(photo, temporary)
    except (OSError, ValueError) as error:  # ValueError: larger than the format allows
        raise ImageError(f"{path}: cannot write ({getattr(error, 'strerror', None) or error})") from error


_SETTINGS: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".png": {},
    ".webp": {"lossless": True, "exact": True},
    ".tif": {"compression": "tiff_deflate"},
    ".tiff": {"compression": "tiff_deflate"},
}


def _write_8bit(photo: Photo, path: Path) -> None:
    suffix = path.suffix.lower()
    pixels = _to_8bit(photo.pixels)
    one_channel = photo.gray and suffix != ".webp"  # WebP has no gray
    channels = [pixels[..., 0]] if one_channel else [pixels[..., i] for i in range(3)]
    if photo.alpha is not None and suffix not in (".jpg", ".jpeg"):
        channels.append(_to_8bit(photo.alpha))
    image = Image.fromarray(np.stack(channels, axis=-1) if len(channels) > 1 else channels[0])
    settings = dict(_SETTINGS[suffix])
    if photo.exif and suffix not in (".tif", ".tiff"):
        settings["exif"] = photo.exif
    if photo.icc and photo.gray == one_channel:  # a gray profile does not describe three channels
        settings["icc_profile"] = photo.icc
    image.save(path, **settings)


def _to_8bit(data: NDArray[Any]) -> NDArray[np.uint8]:
    # 257 = 65535 / 255: exact at both ends.
    return data if data.dtype == np.uint8 else ((data.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _write_16bit(photo: Photo, path: Path) -> None:
    one_channel = photo.gray and photo.alpha is None
    data: NDArray[Any] = photo.pixels[..., :1] if one_channel else photo.pixels[..., ::-1]
    if photo.alpha is not None:
        data = np.concatenate([data, photo.alpha[..., None]], axis=-1)
    icc = photo.icc if photo.gray == one_channel else None  # a gray profile does not describe three channels
    write_16_bits(path, np.ascontiguousarray(data), icc, photo.exif)
