"""A frame of an image that Pillow opened, as a photo with its metadata."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from . import boxes, exif, jpeg, metadata, png
from .color import fitting_profile
from .decoded import as_photo
from .ifd import mapped
from .orientation import turned
from .photo import Metadata, Photo
from .plugins import stored_bits

_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")


@dataclass(frozen=True)
class Shared:
    """What a file says once about all its frames."""

    bits: int  # per channel, as stored
    orientation: int  # 1 to 8
    exif: bytes | None  # upright
    metadata: Metadata
    notes: tuple[str, ...]  # for the user


def count_frames(image: Image.Image) -> int:
    """The number of frames of an open image, but not of layers, previews or gain maps."""
    return int(getattr(image, "n_frames", 1)) if image.format in _ANIMATED else 1


def read_shared(path: Path, image: Image.Image) -> Shared:
    """Read what all frames share from an open image, whose file is `path`; its current frame is decoded.

    Raises whatever Pillow or a plugin raises.
    """
    image.load()  # some decoders turn the image, and say so only afterwards
    _complete(path, image)
    blob = image.info.get("exif")
    upright = exif.upright(blob) if isinstance(blob, bytes) else None
    damaged = ("camera data (EXIF) are damaged and left out",) if blob is not None and upright is None else ()
    notes = (*_left_out(path, image), *damaged)
    return Shared(stored_bits(path, image), _orientation(image), upright, metadata.of_image(path, image), notes)


def read_frame(path: Path, image: Image.Image, shared: Shared) -> Photo:
    """Decode the current frame of an open image, whose file is `path`, and turn it upright.

    Raises ImageError, and whatever Pillow or a plugin raises.
    """
    image.load()
    found = (_deep_png(path, image) if image.format == "PNG" and shared.bits == 16 else None) or as_photo(image)
    is_reduced = shared.bits > 8 and found.pixels.dtype == np.uint8
    notes = (f"{shared.bits} bits per channel are read as 8",) if is_reduced else ()
    found = turned(found, shared.orientation)
    return replace(found, exif=shared.exif, metadata=shared.metadata, notes=(*found.notes, *notes, *shared.notes))


def _orientation(image: Image.Image) -> int:
    """The orientation in EXIF, or in XMP if there is none, 1 to 8."""
    blob = image.info.get("exif")
    camera = exif.parse(blob) if isinstance(blob, bytes) else None  # Pillow raises where it is damaged
    if camera and exif.ORIENTATION in camera.entries:
        return exif.orientation(camera)
    return metadata.turn_of_xmp(metadata.packet(image))


def _left_out(path: Path, image: Image.Image) -> tuple[str, ...]:
    """Notes on pictures and data in the file beside the image or its frames."""
    notes: tuple[str, ...] = ()
    others = int(getattr(image, "n_frames", 1)) - 1
    if others > 0 and not count_frames(image) > 1:
        notes += (f"{others} more pictures or layers in the file (such as a gain or depth map) are left out",)
    if image.format in ("JPEG", "MPO"):
        with mapped(path) as data:
            behind = jpeg.describe_appended(data, pictures=not others)
        notes += (behind,) if behind else ()
    return notes


def _complete(path: Path, image: Image.Image) -> None:
    """Add what Pillow passes over to `image.info`: EXIF as text and a transparent gray in PNG, JPEG 2000's profile."""
    raw = image.info.pop(png.RAW_EXIF, None)
    if isinstance(raw, str) and not image.info.get("exif"):
        image.info["exif"] = png.from_raw(raw)
    if image.format == "PNG":
        _scale_clear(path, image)
    if image.format == "JPEG2000":
        with mapped(path) as data:
            icc = boxes.jp2_profile(data)
        image.info.update({"icc_profile": icc} if icc else {})


def _scale_clear(path: Path, image: Image.Image) -> None:
    """Scale a transparent gray of 2 or 4 bits, which Pillow leaves as stored, to the 8 bits of the decoded image."""
    bits, clear = png.header(path)[0], image.info.get("transparency")
    if image.mode == "L" and bits in (2, 4) and isinstance(clear, int):
        image.info["transparency"] = clear * 255 // ((1 << bits) - 1)


def _deep_png(path: Path, image: Image.Image) -> Photo | None:
    """A PNG of 16 bits; None for an animation, or where OpenCV does not return 16."""
    deep = png.read_16_bits(path) if getattr(image, "n_frames", 1) == 1 else None
    if deep is None:
        return None
    alpha = np.ascontiguousarray(deep[..., 3]) if deep.ndim == 3 and deep.shape[2] == 4 else None
    gray = png.header(path)[1] in (0, 4)
    pixels = np.repeat(deep.reshape(*deep.shape[:2], -1)[..., :1], 3, axis=2) if gray else deep[..., :3]
    if alpha is None:
        alpha = png.transparent_16_bits(path, pixels[..., :1] if gray else pixels)
    icc, notes = fitting_profile(image.info.get("icc_profile"), gray)
    return Photo(np.ascontiguousarray(pixels), alpha, gray, icc, notes=notes)
