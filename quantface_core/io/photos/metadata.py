"""What files say beside their pixels: resolution, XMP, IPTC, comments, the meaning of their colours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image

from . import boxes, png, tiff
from .ifd import Directory, mapped
from .photo import XMP_START, Metadata

_TURN = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>\s*))([1-8])""")
_IPTC_RESOURCE = 0x0404  # of Photoshop's block in JPEG

# Of ITU-T H.273, what viewers show like sRGB: BT.709's primaries with sRGB's or a television's curve, or none told.
_USUAL_PRIMARIES, _USUAL_TRANSFERS = (1, 2), (1, 2, 6, 13)


def of_image(path: Path, image: Image.Image) -> Metadata:
    info = image.info
    photoshop = info.get("photoshop")
    iptc = photoshop.get(_IPTC_RESOURCE) if isinstance(photoshop, dict) else None
    comment = info.get("comment")
    comment = comment.encode("utf-8", "replace") if isinstance(comment, str) else comment
    return Metadata(
        dpi=_dpi(info.get("dpi")) if _tells_resolution(image) else None,
        xmp=_xmp(packet(image)),
        iptc=iptc if isinstance(iptc, bytes) else None,
        comment=comment if isinstance(comment, bytes) and image.format != "PNG" else None,
        png=png.kept_chunks(path) if image.format == "PNG" else _coding(path, image),
    )


def _coding(path: Path, image: Image.Image) -> tuple[png.Chunk, ...]:
    """Colours that AVIF or HEIC names by numbers instead of a profile, as PNG does; none where they are sRGB's."""
    if image.info.get("icc_profile"):
        return ()
    named: tuple[int, int] | None = None
    if image.format == "AVIF":
        with mapped(path) as data:
            named = boxes.avif_coding(data)
    elif image.format == "HEIF" and isinstance(profile := image.info.get("nclx_profile"), dict):
        named = int(profile["color_primaries"]), int(profile["transfer_characteristics"])
    if named is None or max(named) > 255 or (named[0] in _USUAL_PRIMARIES and named[1] in _USUAL_TRANSFERS):
        return ()
    return ((b"cICP", bytes([*named, 0, 1])),)


def of_tiff(directory: Directory) -> Metadata:
    return Metadata(
        dpi=tiff.resolution(directory),
        xmp=_xmp(directory.content(tiff.XMP)),
        iptc=directory.content(tiff.IPTC),
    )


def _tells_resolution(image: Image.Image) -> bool:
    """Pillow says 72 dots an inch of a JPEG whose camera data say nothing."""
    return image.format not in ("JPEG", "MPO") or image.info.get("jfif_unit") in (1, 2) or 282 in image.getexif()


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def packet(image: Image.Image) -> bytes | None:
    """XMP as it lies in the file, wherever this Pillow puts it."""
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if not found:
        segments = (s for name, s in getattr(image, "applist", ()) if name == "APP1" and s.startswith(XMP_START))
        found = next(segments, b"")[len(XMP_START) :]
    if isinstance(found, str):
        found = found.encode("utf-8", "surrogateescape")
    return found if isinstance(found, bytes) and found.strip(b"\0 ") else None


def turn_of_xmp(packet: bytes | None) -> int:
    found = _TURN.search(packet or b"")
    return int(found[2]) if found else 1


def _xmp(packet: bytes | None) -> bytes | None:
    """XMP with its own orientation reset."""
    return _TURN.sub(rb"\g<1>1", packet) if packet else None
