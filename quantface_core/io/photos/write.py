"""Encode photos, pages and animations with their metadata; warn of what the format cannot store."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...bit_depth import to_8_bits
from ...errors import ImageError
from ..atomic import atomic_path
from . import exif, png, tiff, tiff_write
from .colour import space, to_srgb
from .ifd import Directory
from .photo import JPEG, PNG, TIFF, WEBP, WRITABLE, XMP_START, Metadata, Pages, Photo, check_size

_JPEG_SEGMENT_MAX_BYTES = 65533  # bytes that fit a segment of JPEG
_EXIF_MAX_BYTES = _JPEG_SEGMENT_MAX_BYTES - len(exif.PREFIX)
_PHOTOSHOP_HEADER = b"Photoshop 3.0\0"

Warnings = tuple[str, ...]
"""What a file lacks of its photo, a line each for the user."""


def write_photo(photo: Photo, path: Path) -> Warnings:
    """Write a photo atomically in the format of its suffix; return warnings of what that could not store.

    JPEG is written at quality 95 without chroma subsampling, WebP without loss; 16-bit pictures keep
    their depth as PNG or TIFF and become 8-bit in other formats; JPEG drops alpha. Raises ImageError.
    """
    return write_pages(Pages((photo,)), path)


def write_pages(pages: Pages, path: Path) -> Warnings:
    """Write pages as TIFF, an animation as PNG or WebP; other formats get the first picture alone, with a warning.

    Raises ImageError and returns warnings as `write_photo`.
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
    encoders = ((JPEG, _encode_jpeg), (PNG, _encode_png), (WEBP, _encode_webp), (TIFF, _encode_tiff))
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


def _encode_jpeg(pages: Pages) -> tuple[bytes, Warnings]:
    photo, warnings = _to_uint8(pages.photos[0])
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
    image = _to_pil(replace(photo, alpha=None))
    return _encode_pil(image, "JPEG", extra=segments, **settings), (
        *warnings,
        *_dropped_chunk_warnings(metadata, "JPEG"),
    )


def _photoshop_resource(iptc: bytes) -> bytes:
    """IPTC as an image resource block of Photoshop (8BIM, number 0x0404), padded to an even length."""
    return b"8BIM\x04\x04\0\0" + struct.pack(">L", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def _encode_webp(pages: Pages) -> tuple[bytes, Warnings]:
    frames, warnings = _to_uniform_uint8(pages.photos)
    first = frames[0]
    pairs = [_to_rgb(frame) for frame in frames]  # WebP has no gray
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
    warnings += (f"{' and '.join(dropped)}: left out, WebP has no place for it",) if dropped else ()
    warnings += _dropped_chunk_warnings(first.metadata, "WebP")
    return _encode_pil(_to_pil(frames[0]), "WEBP", **_animation_arguments(pages, frames), **settings), warnings


def _with_resolution(blob: bytes | None, dpi: tuple[float, float]) -> bytes | None:
    """The EXIF as it is, or where there is none a new one with the resolution: WebP can store it nowhere else."""
    if blob is not None:
        return blob
    directory = Directory("<")
    tiff_write.put_resolution(directory, dpi)
    return exif.from_tiff(directory)


def _encode_png(pages: Pages) -> tuple[bytes, Warnings]:
    first = pages.photos[0]
    warnings: Warnings = ()
    if len(pages.photos) == 1 and first.pixels.dtype == np.uint16:
        encoded = png.encode(_stack_alpha(first))
    else:
        frames, warnings = _to_uniform_uint8(pages.photos)
        encoded = _encode_pil(_to_pil(frames[0]), "PNG", **_animation_arguments(pages, frames))
    return png.with_chunks(encoded, _png_chunks(first)), warnings


def _png_chunks(photo: Photo) -> list[png.Chunk]:
    metadata = photo.metadata
    chunks = [(kind, content) for kind, content in metadata.png if kind not in png.TEXT]
    chunks += [png.profile_chunk(photo.icc)] if photo.icc else []
    if metadata.dpi and not any(kind == b"pHYs" for kind, _ in chunks):
        metres = (round(value / 0.0254) for value in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">LLB", *metres, 1)))
    chunks += [(b"eXIf", photo.exif)] if photo.exif else []
    chunks += [png.text_chunk(png.XMP_KEY, metadata.xmp)] if metadata.xmp else []
    chunks += [png.iptc_chunk(_photoshop_resource(metadata.iptc))] if metadata.iptc else []
    if metadata.comment:
        text = metadata.comment.decode("utf-8", "replace").replace("\0", "")
        chunks.append(png.text_chunk(b"Comment", text.encode()))
    return chunks + [(kind, content) for kind, content in metadata.png if kind in png.TEXT]


def _encode_tiff(pages: Pages) -> tuple[bytes, Warnings]:
    stored: list[tuple[NDArray[Any], Directory]] = []
    colours, warnings = [], set[str]()
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
            warnings.add("the comment is left out: TIFF holds one description, and there is one")
        warnings |= set(_dropped_chunk_warnings(metadata, "TIFF"))
        stored.append((_stack_alpha(photo), directory))
        colours.append(1 if photo.gray else 3)
    return tiff_write.write(stored, colours), tuple(sorted(warnings))


def _dropped_chunk_warnings(metadata: Metadata, name: str) -> Warnings:
    warnings: Warnings = ()
    keys = [content.split(b"\0")[0].decode("latin-1") for kind, content in metadata.png if kind in png.TEXT]
    if keys:
        shown = ", ".join(dict.fromkeys(keys[:5]))
        warnings += (f"text of PNG ({shown}) is left out: {name} has no place for it",)
    names = png.color_chunk_names(metadata.png)
    if names:
        warnings += (f"what the colours mean ({', '.join(names)}) is left out: {name} has no place for it",)
    return warnings


def _stack_alpha(photo: Photo) -> NDArray[Any]:
    """Gray or RGB with alpha behind it where there is one: [H, W, 1 to 4], the photo's dtype."""
    colours = photo.pixels[..., :1] if photo.gray else photo.pixels
    return colours if photo.alpha is None else np.concatenate([colours, photo.alpha[..., None]], axis=2)


def _to_pil(photo: Photo) -> Image.Image:
    channels = _stack_alpha(photo)
    return Image.fromarray(np.ascontiguousarray(channels if channels.shape[2] > 1 else channels[..., 0]))


def _encode_pil(image: Image.Image, name: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **settings)
    return file.getvalue()


def _animation_arguments(pages: Pages, frames: Sequence[Photo]) -> dict[str, Any]:
    """Pillow's keyword arguments for an animation; empty for one picture."""
    if len(frames) == 1:
        return {}
    rest = [_to_pil(frame) for frame in frames[1:]]
    durations = [round(duration) for duration in pages.durations]
    return {"save_all": True, "append_images": rest, "duration": durations, "loop": pages.loops}


def _to_uniform_uint8(photos: Sequence[Photo]) -> tuple[list[Photo], Warnings]:
    """Frames as uint8 with the same channels: gray only if all are, alpha if any has it, opaque where one has none."""
    pairs = [_to_uint8(photo) for photo in photos]
    frames = [photo for photo, _ in pairs]
    warnings = tuple(dict.fromkeys(line for _, lines in pairs for line in lines))
    gray, clear = all(f.gray for f in frames), any(f.alpha is not None for f in frames)
    full = [
        replace(
            f, gray=gray, alpha=np.full(f.pixels.shape[:2], 255, np.uint8) if clear and f.alpha is None else f.alpha
        )
        for f in frames
    ]
    return full, warnings


def _to_uint8(photo: Photo) -> tuple[Photo, Warnings]:
    if photo.pixels.dtype == np.uint8:
        return photo, ()
    alpha = None if photo.alpha is None else to_8_bits(photo.alpha)
    return replace(photo, pixels=to_8_bits(photo.pixels), alpha=alpha), ("16 bits a channel become 8",)


def _to_rgb(photo: Photo) -> tuple[Photo, Warnings]:
    """Gray as RGB; a gray profile, which cannot describe RGB, is applied, or left out where it cannot be applied."""
    if not photo.gray or not photo.icc:
        return replace(photo, gray=False), ()
    image = None
    if space(photo.icc) == "gray":
        image = to_srgb(Image.fromarray(np.ascontiguousarray(photo.pixels[..., 0])), photo.icc)
    if image is None:
        warning = "the colour profile of gray is left out: it cannot be applied, and WebP has no gray for it"
        return replace(photo, gray=False, icc=None), (warning,)
    converted = replace(photo, pixels=np.asarray(image), gray=False, icc=None)
    return converted, ("gray becomes sRGB: WebP has no gray for its profile",)
