"""Colours as RGB or gray: through their profile where they are of another kind."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image, ImageCms

_SPACES = {b"RGB ": "RGB", b"GRAY": "gray", b"CMYK": "CMYK", b"Lab ": "Lab"}


def space(icc: bytes) -> str | None:
    """What a profile describes: RGB, gray, CMYK or Lab; None for what is no profile of these."""
    return _SPACES.get(icc[16:20])


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image | None:
    """An L, RGB, CMYK or LAB picture in sRGB, through its profile; None where that does not describe it."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        return ImageCms.profileToProfile(image, source, _srgb(), renderingIntent=intent, outputMode="RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def as_rgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None, tuple[str, ...]]:
    """A picture of any of Pillow's 8-bit modes as L, LA, RGB or RGBA, with the profile that describes it then."""
    mode = image.mode
    notes: tuple[str, ...] = ()
    if mode == "CMYK":
        converted = to_srgb(image, icc) if icc and space(icc) == "CMYK" else None
        how = "through its profile" if converted else "by a plain rule, for it has no profile of its own"
        return converted or image.convert("RGB"), None, (f"CMYK becomes sRGB, {how}",)
    if mode == "LAB":
        return image.convert("RGB"), None, ("CIE Lab becomes sRGB",)
    has_alpha = mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info
    if mode in ("La", "RGBa"):  # multiplied by alpha
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    gray = mode in ("1", "L", "LA", "La")
    if gray and has_alpha:
        image = image.convert("RGBA").convert("LA") if mode in ("1", "L") else image
    elif gray:
        image = image.convert("L")
    else:
        image = image.convert("RGBA" if has_alpha else "RGB")
    if icc and space(icc) not in (None, "gray" if gray else "RGB"):
        notes, icc = (f"a profile for {space(icc)} that does not describe its colours is left out",), None
    return image, icc, notes
