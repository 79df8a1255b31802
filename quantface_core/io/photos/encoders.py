"""Encode photos with their metadata, a function per format; warn about what the format cannot hold.

Each takes pages and returns the file's bytes. Beyond what a format allows they raise ValueError or struct.error, and
Pillow's OSError.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import exif, png, tiff, tiff_write
from .channels import stack_alpha, to_pil, to_rgb, to_uint8, to_uniform_uint8
from .ifd import Directory
from .photo import XMP_START, Metadata, Pages, Photo, Warnings

_JPEG_SEGMENT_MAX_BYTES = 65533  # bytes that fit a JPEG segment
_EXIF_MAX_BYTES = _JPEG_SEGMENT_MAX_BYTES - len(exif.PREFIX)
_PHOTOSHOP_HEADER = b"Photoshop 3.0\0"


def encode_jpeg(pages: Pages) -> tuple[bytes, Warnings]:
    """The first photo as JPEG, at quality 95 without chroma subsampling."""
    photo, warnings = to_uint8(pages.photos[0])
    if photo.alpha is not None:
        warnings += ("transparency is left out: JPEG has none",)
    metadata, settings = photo.metadata, dict[str, Any](quality=95, subsampling=0)
    if metadata.dpi:
        settings["dpi"] = tuple(max(1, min(round(v), 0xFFFF)) for v in metadata.dpi)
    blob = photo.exif
    if blob and len(blob) > _EXIF_MAX_BYTES:
        blob = exif.truncate(blob, _EXIF_MAX_BYTES)
        what = "the maker's note in the camera data (EXIF) is" if blob else "camera data (EXIF) are"
        warnings += (f"{what} left out: JPEG holds 64 kB",)
    if blob:
        settings["exif"] = exif.PREFIX + blob
    if photo.icc:
        settings["icc_profile"] = photo.icc
    if metadata.comment and len(metadata.comment) <= _JPEG_SEGMENT_MAX_BYTES:
        settings["comment"] = metadata.comment
    segments, dropped = b"", [] if settings.get("comment") == metadata.comment else ["the comment"]
    for name, marker, content in (
        ("XMP", 0xE1, metadata.xmp and XMP_START + metadata.xmp),
        ("IPTC", 0xED, metadata.iptc and _PHOTOSHOP_HEADER + _photoshop_resource(metadata.iptc)),
    ):
        if content and len(content) <= _JPEG_SEGMENT_MAX_BYTES:
            segments += struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
        elif content:
            dropped.append(name)
    if dropped:
        warnings += (f"{' and '.join(dropped)} of more than 64 kB: left out of JPEG",)
    image = to_pil(replace(photo, alpha=None))
    return _encode_pil(image, "JPEG", extra=segments, **settings), (
        *warnings,
        *_dropped_chunk_warnings(metadata, "JPEG"),
    )


def _photoshop_resource(iptc: bytes) -> bytes:
    """IPTC as a Photoshop image resource block (8BIM, number 0x0404), padded to an even length."""
    return b"8BIM\x04\x04\0\0" + struct.pack(">L", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def encode_webp(pages: Pages) -> tuple[bytes, Warnings]:
    """A photo or an animation as lossless WebP; gray becomes RGB."""
    frames, warnings = to_uniform_uint8(pages.photos)
    first = frames[0]
    pairs = [to_rgb(frame) for frame in frames]  # WebP has no gray
    frames = [frame for frame, _ in pairs]
    warnings += tuple(dict.fromkeys(line for _, lines in pairs for line in lines))
    blob = first.exif
    if first.metadata.dpi:
        blob = _with_resolution(blob, first.metadata.dpi)
    settings: dict[str, Any] = {"lossless": True, "exact": True}
    settings |= {"exif": exif.PREFIX + blob} if blob else {}
    settings |= {"icc_profile": frames[0].icc} if frames[0].icc else {}
    settings |= {"xmp": first.metadata.xmp} if first.metadata.xmp else {}
    dropped = [n for n, v in (("IPTC", first.metadata.iptc), ("the comment", first.metadata.comment)) if v]
    warnings += (f"{' and '.join(dropped)}: left out, not supported by WebP",) if dropped else ()
    warnings += _dropped_chunk_warnings(first.metadata, "WebP")
    return _encode_pil(to_pil(frames[0]), "WEBP", **_animation_arguments(pages, frames), **settings), warnings


def _with_resolution(blob: bytes | None, dpi: tuple[float, float]) -> bytes | None:
    """The EXIF unchanged, or without any a new one with the resolution: WebP can store it nowhere else."""
    if blob is not None:
        return blob
    directory = Directory("<")
    tiff_write.put_resolution(directory, dpi)
    return exif.from_tiff(directory)


def encode_png(pages: Pages) -> tuple[bytes, Warnings]:
    """A photo of 8 or 16 bits, or an animation of 8, as PNG."""
    first = pages.photos[0]
    warnings: Warnings = ()
    if len(pages.photos) == 1 and first.pixels.dtype == np.uint16:
        encoded = png.encode(stack_alpha(first))
    else:
        frames, warnings = to_uniform_uint8(pages.photos)
        encoded = _encode_pil(to_pil(frames[0]), "PNG", **_animation_arguments(pages, frames))
    return png.with_chunks(encoded, _png_chunks(first)), warnings


def _png_chunks(photo: Photo) -> list[png.Chunk]:
    metadata = photo.metadata
    chunks = [(kind, content) for kind, content in metadata.png if kind not in png.TEXT]
    chunks += [png.profile_chunk(photo.icc)] if photo.icc else []
    if metadata.dpi and not any(kind == b"pHYs" for kind, _ in chunks):
        dots_per_meter = (round(value / 0.0254) for value in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">LLB", *dots_per_meter, 1)))
    chunks += [(b"eXIf", photo.exif)] if photo.exif else []
    chunks += [png.text_chunk(png.XMP_KEY, metadata.xmp)] if metadata.xmp else []
    chunks += [png.iptc_chunk(_photoshop_resource(metadata.iptc))] if metadata.iptc else []
    if metadata.comment:
        text = metadata.comment.decode("utf-8", "replace").replace("\0", "")
        chunks.append(png.text_chunk(b"Comment", text.encode()))
    return chunks + [(kind, content) for kind, content in metadata.png if kind in png.TEXT]


def encode_tiff(pages: Pages) -> tuple[bytes, Warnings]:
    """All pages, of 8 or 16 bits, as Deflate TIFF."""
    stored: list[tuple[NDArray[Any], Directory]] = []
    colors, warnings = [], set[str]()
    for photo in pages.photos:
        directory = exif.parse(photo.exif) if photo.exif else None
        if directory is None or (stored and directory.order != stored[0][1].order):
            directory = Directory(stored[0][1].order if stored else "<")
            warnings |= {"camera data (EXIF) are damaged and left out"} if photo.exif else set()
        directory = exif.descriptive(directory)
        metadata = photo.metadata
        if metadata.dpi:
            tiff_write.put_resolution(directory, metadata.dpi)
        for tag, value in ((tiff.XMP, metadata.xmp), (tiff.IPTC, metadata.iptc), (tiff.ICC, photo.icc)):
            tiff_write.put_bytes(directory, tag, value)
        if metadata.comment and tiff.DESCRIPTION not in directory.entries:
            tiff_write.put_text(directory, tiff.DESCRIPTION, metadata.comment)
        elif metadata.comment:
            warnings.add("the comment is left out: TIFF holds one description, and has one already")
        warnings |= set(_dropped_chunk_warnings(metadata, "TIFF"))
        stored.append((stack_alpha(photo), directory))
        colors.append(1 if photo.gray else 3)
    return tiff_write.write(stored, colors), tuple(sorted(warnings))


def _dropped_chunk_warnings(metadata: Metadata, name: str) -> Warnings:
    warnings: Warnings = ()
    keys = [content.split(b"\0")[0].decode("latin-1") for kind, content in metadata.png if kind in png.TEXT]
    if keys:
        shown = ", ".join(dict.fromkeys(keys[:5]))
        warnings += (f"PNG text ({shown}) is left out: {name} cannot hold it",)
    names = png.color_chunk_names(metadata.png)
    if names:
        warnings += (f"the meaning of colours ({', '.join(names)}) is left out: {name} cannot hold it",)
    return warnings


def _encode_pil(image: Image.Image, name: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **settings)
    return file.getvalue()


def _animation_arguments(pages: Pages, frames: Sequence[Photo]) -> dict[str, Any]:
    """Pillow's keyword arguments for an animation; empty for one image."""
    if len(frames) == 1:
        return {}
    rest = [to_pil(frame) for frame in frames[1:]]
    durations = [round(duration) for duration in pages.durations]
    return {"save_all": True, "append_images": rest, "duration": durations, "loop": pages.loops}
