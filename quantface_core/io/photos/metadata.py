"""Metadata beside the pixels: resolution, XMP, IPTC, comments, the meaning of colours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image

from . import boxes, png, tiff
from .ifd import Directory, mapped
from .photo import XMP_START, Metadata

_TURN = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>\s*))([1-8])""")
# Names by which viewers look behind the image, where results have nothing: a phone's video, a gain map, more XMP.
_BEHIND = rb"(?:\w+:(?:MotionPhoto|MicroVideo|HasExtendedXMP)|hdrgm:Version)"
_CLAIM = re.compile(rb"""\s%b\s*=\s*(?:"[^"]*"|'[^']*')|<(%b)>[^<]*</\1>""" % (_BEHIND, _BEHIND))
_IPTC_RESOURCE = 0x0404  # of Photoshop's block in JPEG

# ITU-T H.273 codes that viewers show like sRGB: BT.709 primaries with sRGB's or a TV's transfer curve, or unspecified.
_USUAL_PRIMARIES, _USUAL_TRANSFERS = (1, 2), (1, 2, 6, 13)


def of_image(path: Path, image: Image.Image) -> Metadata:
    """The metadata of an open Pillow image, whose file is `path`."""
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
    """The H.273 codes of an AVIF or HEIC image without a profile, as PNG's cICP chunk; none where they mean sRGB."""
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
    """The metadata of a TIFF's page."""
    return Metadata(
        dpi=_dpi(tiff.resolution(directory)),
        xmp=_xmp(directory.content(tiff.XMP)),
        iptc=directory.content(tiff.IPTC),
    )


def _tells_resolution(image: Image.Image) -> bool:
    """Whether the resolution is the file's own: Pillow reports 72 dpi for a JPEG whose EXIF has none."""
    return image.format not in ("JPEG", "MPO") or image.info.get("jfif_unit") in (1, 2) or 282 in image.getexif()


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def packet(image: Image.Image) -> bytes | None:
    """The XMP packet as it is in the file, wherever this version of Pillow puts it; None where there is none."""
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if not found:
        segments = (s for name, s in getattr(image, "applist", ()) if name == "APP1" and s.startswith(XMP_START))
        found = next(segments, b"")[len(XMP_START) :]
    if isinstance(found, str):
        found = found.encode("utf-8", "surrogateescape")
    return found if isinstance(found, bytes) and found.strip(b"\0 ") else None


def turn_of_xmp(packet: bytes | None) -> int:
    """The orientation in an XMP packet, 1 to 8; 1 where it has none."""
    found = _TURN.search(packet or b"")
    return int(found[2]) if found else 1


def _xmp(packet: bytes | None) -> bytes | None:
    """XMP with its orientation reset, and without claims that more follows the image."""
    return _CLAIM.sub(b"", _TURN.sub(rb"\g<1>1", packet)) if packet else None
