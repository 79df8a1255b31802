"""Convert colours to RGB or gray, through their profile where they are in another colour space."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

from PIL import Image, ImageCms

_SPACES = {b"RGB ": "RGB", b"GRAY": "gray", b"CMYK": "CMYK", b"Lab ": "Lab"}

_BLACK_POINT_COMPENSATION: Any = 0x2000  # LittleCMS's flag, which Pillow names only from 10.3 on


def space(icc: bytes) -> str | None:
    """The colour space that an ICC profile describes: RGB, gray, CMYK or Lab; None for any other, or no profile."""
    return _SPACES.get(icc[16:20])


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image | None:
    """Convert an L, RGB, CMYK or LAB image to sRGB through its profile; None where the profile does not describe it."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return ImageCms.profileToProfile(
            image, source, _srgb(), renderingIntent=intent, outputMode="RGB", flags=_BLACK_POINT_COMPENSATION
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _with_clear(image: Image.Image) -> Image.Image:
    """A gray image with its one transparent colour as alpha; older Pillows drop it from bilevel images."""
    clear, gray = image.info["transparency"], image.convert("L")
    if image.mode == "1" and isinstance(clear, int):
        clear = 255 if clear else 0
    if isinstance(clear, int):
        gray.putalpha(gray.point([0 if value == clear else 255 for value in range(256)]))
    return gray if gray.mode == "LA" else image.convert("RGBA").convert("LA")


def as_rgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None, tuple[str, ...]]:
    """Convert an image in any of Pillow's 8-bit modes to L, LA, RGB or RGBA.

    Returns it with the profile that describes it then, and notes for the user.
    """
    mode = image.mode
    notes: tuple[str, ...] = ()
    if mode == "CMYK":
        converted = to_srgb(image, icc) if icc and space(icc) == "CMYK" else None
        how = "through its profile" if converted else "by a plain rule, as it has no CMYK profile"
        return converted or image.convert("RGB"), None, (f"CMYK becomes sRGB, {how}",)
    if mode == "LAB":
        return image.convert("RGB"), None, ("CIE Lab becomes sRGB",)
    has_alpha = mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info
    if mode in ("La", "RGBa"):  # premultiplied
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    gray = mode in ("1", "L", "LA", "La")
    if gray and has_alpha:
        image = _with_clear(image) if mode in ("1", "L") else image
    elif gray:
        image = image.convert("L")
    else:
        image = image.convert("RGBA" if has_alpha else "RGB")
    if icc and space(icc) not in (None, "gray" if gray else "RGB"):
        notes, icc = (f"a {space(icc)} profile, which does not describe its colours, is left out",), None
    return image, icc, notes


def fitting_profile(icc: bytes | None, gray: bool) -> tuple[bytes | None, tuple[str, ...]]:
    """A profile, dropped if it describes another colour space, and notes for the user."""
    _, kept, notes = as_rgb(Image.new("L" if gray else "RGB", (1, 1)), icc)
    return kept, notes
