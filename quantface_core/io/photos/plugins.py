"""The Pillow decoders in use, those that need plugins, and the bit depth a file stores."""

from __future__ import annotations

import importlib
from pathlib import Path

from PIL import Image

from ...requirements import install_command
from . import jxl

FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF", "JPEG2000", "PPM", "TGA", "QOI", "PSD"),
    *("DDS", "PCX", "SGI", "ICO", "ICNS", "HEIF", "JXL"),
)
"""Decoders by Pillow's names: raster images only, since others (EPS, WMF) start programs or draw."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_START = 1 << 16  # bytes of a file that are searched for its bit depth


def missing_plugin(path: Path) -> str | None:
    """What to install for a file that starts like HEIC or JPEG XL; None for others, or where it is installed."""
    with path.open("rb") as file:
        start = file.read(16)
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS and "HEIF" not in Image.OPEN:
        return f"HEIC needs a plugin: {install_command('pillow-heif')}"
    if start.startswith((jxl.CODESTREAM, jxl.CONTAINER)) and "JXL" not in Image.OPEN:
        return f"JPEG XL needs a plugin: {install_command('pillow-jxl-plugin')}"
    return None


def register_plugins() -> None:
    """Register the formats of installed plugins with Pillow."""
    for module, register in (("pillow_heif", "register_heif_opener"), ("pillow_jxl", None)):
        try:
            plugin = importlib.import_module(module)
        except ImportError:
            continue
        if register:
            getattr(plugin, register)()


def stored_bits(path: Path, image: Image.Image) -> int:
    """Bits per channel in the file, of which Pillow may decode only 8; 8 where the file does not say."""
    if image.format == "HEIF":
        return int(image.info.get("bit_depth") or 8)
    with path.open("rb") as file:
        start = file.read(_START)
    if image.format == "PNG":
        return start[24]
    if image.format == "PPM" and start[:2] in (b"P5", b"P6"):
        return 16 if _ppm_white(start) > 255 else 8
    if image.format == "JPEG2000":
        size = start.find(b"\xff\x51")
        return (start[size + 40] & 0x7F) + 1 if 0 <= size < len(start) - 40 else 8
    if image.format == "JXL":
        return jxl.bits_per_channel(start)
    if image.format == "AVIF":
        place = start.find(b"av1C")
        flags = start[place + 6] if 0 <= place < len(start) - 6 else 0
        return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    return 8


def _ppm_white(start: bytes) -> int:
    words = [w for line in start[:400].split(b"\n") for w in line.split(b"#")[0].split()]
    return int(words[3]) if len(words) > 3 and words[3].isdigit() else 255
