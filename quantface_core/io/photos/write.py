"""Write photos with all that their format can hold, and say what it cannot."""

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
from . import exif, png, tiff
from .colour import space, to_srgb
from .ifd import Directory
from .photo import JPEG, PNG, TIFF, WEBP, WRITABLE, XMP_START, Metadata, Pages, Photo, check_size

_SEGMENT = 65533  # bytes that fit a segment of JPEG
_EXIF_ROOM = _SEGMENT - len(exif.PREFIX)
_IPTC_START = b"Photoshop 3.0\0"

Notes = tuple[str, ...]


def write_photo(photo: Photo, path: Path) -> Notes:
    """Write a photo atomically in the format its suffix names; returns what that could not hold. Raises ImageError.

    JPEG is written at quality 95 without chroma subsampling, WebP without loss; 16-bit pictures keep
    their depth as PNG or TIFF and become 8-bit in other formats; JPEG drops alpha.
    """
    return write_pages(Pages((photo,)), path)


def write_pages(pages: Pages, path: Path) -> Notes:
    """Write pages as TIFF, an animation as PNG or WebP; of others, and in other formats, the first picture alone.

    Raises ImageError and returns notes like `write_photo`.
    """
    path = Path(path)  # a string will do
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise ImageError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use {', '.join(WRITABLE)}")
    photos, notes = list(pages.photos), []
    holds_all = suffix in TIFF if not pages.durations else suffix in (*PNG, *WEBP)
    if len(photos) > 1 and not holds_all:
        what = "frame" if pages.durations else "page"
        notes.append(f"only the first of {len(photos)} {what}s is written: {path.suffix} cannot hold them")
        photos = photos[:1]
    for i, photo in enumerate(photos):
        height, width = photo.pixels.shape[:2]
        check_size(width, height)
        photos[i] = replace(photo, exif=photo.exif and exif.sized(photo.exif, width, height))
    encode = {JPEG: _jpeg, PNG: _png, WEBP: _webp, TIFF: _tiff}[next(k for k in (JPEG, PNG, WEBP, TIFF) if suffix in k)]
    try:
        encoded, more = encode(replace(pages, photos=tuple(photos)))
        with atomic_path(path) as temporary:
            temporary.write_bytes(encoded)
    except OSError as error:
        raise ImageError(f"{path}: cannot write ({error.strerror or error})") from error
    except MemoryError:
        raise ImageError(f"{path}: out of memory") from None
    except (ValueError, struct.error) as error:  # larger than the format allows
        raise ImageError(f"{path}: cannot write ({error})") from error
    return (*notes, *more)


def _jpeg(pages: Pages) -> tuple[bytes, Notes]:
    photo, notes = _eight_bits(pages.photos[0])
    if photo.alpha is not None:
        notes += ("transparency is left out: JPEG has none",)
    metadata, settings = photo.metadata, dict[str, Any](quality=95, subsampling=0)
    if metadata.dpi:
        settings["dpi"] = tuple(max(1, min(round(v), 0xFFFF)) for v in metadata.dpi)
    blob = photo.exif
    if blob and len(blob) > _EXIF_ROOM:
        blob = exif.shortened(blob, _EXIF_ROOM)
        what = "the maker's note in the camera data (EXIF) is" if blob else "camera data (EXIF) are"
        notes += (f"{what} left out: JPEG holds 64 kB",)
    if blob:
        settings["exif"] = exif.PREFIX + blob
    if photo.icc:
        settings["icc_profile"] = photo.icc
    if metadata.comment and len(metadata.comment) <= _SEGMENT:
        settings["comment"] = metadata.comment
    segments, left = b"", [] if settings.get("comment") == metadata.comment else ["the comment"]
    for name, marker, content in (
        ("XMP", 0xE1, metadata.xmp and XMP_START + metadata.xmp),
        ("IPTC", 0xED, metadata.iptc and _IPTC_START + _resource(metadata.iptc)),
    ):
        if content and len(content) <= _SEGMENT:
            segments += struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
        elif content:
            left.append(name)
    if left:
        notes += (f"{' and '.join(left)} of more than 64 kB: left out of JPEG",)
    image = _image(replace(photo, alpha=None))
    return _saved(image, "JPEG", extra=segments, **settings), (*notes, *_chunks_left_out(metadata, "JPEG"))


def _resource(iptc: bytes) -> bytes:
    """IPTC as Photoshop's resource."""
    return b"8BIM\x04\x04\0\0" + struct.pack(">L", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def _webp(pages: Pages) -> tuple[bytes, Notes]:
    frames, notes = _all_eight_bits(pages.photos)
    first = frames[0]
    gray = first.gray and first.icc is not None
    frames = [_coloured(frame) for frame in frames]  # WebP has no gray
    if gray and frames[0].icc is None:
        notes += ("gray becomes sRGB: WebP has no gray for its profile",)
    blob = first.exif
    if first.metadata.dpi:
        blob = _with_resolution(blob, first.metadata.dpi)
    settings: dict[str, Any] = {"lossless": True, "exact": True}
    settings |= {"exif": exif.PREFIX + blob} if blob else {}
    settings |= {"icc_profile": frames[0].icc} if frames[0].icc else {}
    settings |= {"xmp": first.metadata.xmp} if first.metadata.xmp else {}
    left = [n for n, v in (("IPTC", first.metadata.iptc), ("the comment", first.metadata.comment)) if v]
    notes += (f"{' and '.join(left)}: left out, WebP has no place for it",) if left else ()
    notes += _chunks_left_out(first.metadata, "WebP")
    return _saved(_image(frames[0]), "WEBP", **_moving(pages, frames), **settings), notes


def _with_resolution(blob: bytes | None, dpi: tuple[float, float]) -> bytes | None:
    """Camera data that tell the resolution, where there are none: WebP's only place for it."""
    if blob is not None:
        return blob
    directory = Directory("<")
    tiff.put_resolution(directory, dpi)
    return exif.of_tiff(directory)


def _png(pages: Pages) -> tuple[bytes, Notes]:
    first = pages.photos[0]
    notes: Notes = ()
    if len(pages.photos) == 1 and first.pixels.dtype == np.uint16:
        encoded = png.encode(_channels(first))
    else:
        frames, notes = _all_eight_bits(pages.photos)
        encoded = _saved(_image(frames[0]), "PNG", **_moving(pages, frames))
    return png.with_chunks(encoded, _png_chunks(first)), notes


def _png_chunks(photo: Photo) -> list[png.Chunk]:
    metadata = photo.metadata
    chunks = [(kind, content) for kind, content in metadata.png if kind not in png.TEXT]
    chunks += [png.profile_chunk(photo.icc)] if photo.icc else []
    if metadata.dpi and not any(kind == b"pHYs" for kind, _ in chunks):
        metres = (round(value / 0.0254) for value in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">LLB", *metres, 1)))
    chunks += [(b"eXIf", photo.exif)] if photo.exif else []
    chunks += [png.text_chunk(png.XMP_KEY, metadata.xmp)] if metadata.xmp else []
    chunks += [png.iptc_chunk(_resource(metadata.iptc))] if metadata.iptc else []
    if metadata.comment:
        text = metadata.comment.decode("utf-8", "replace").replace("\0", "")
        chunks.append(png.text_chunk(b"Comment", text.encode()))
    return chunks + [(kind, content) for kind, content in metadata.png if kind in png.TEXT]


def _tiff(pages: Pages) -> tuple[bytes, Notes]:
    stored: list[tuple[NDArray[Any], Directory]] = []
    colours, notes = [], set[str]()
    for photo in pages.photos:
        directory = exif.parsed(photo.exif) if photo.exif else None
        if directory is None or (stored and directory.order != stored[0][1].order):
            directory = Directory(stored[0][1].order if stored else "<")
            notes |= {"camera data (EXIF) are damaged and left out"} if photo.exif else set()
        metadata = photo.metadata
        if metadata.dpi:
            tiff.put_resolution(directory, metadata.dpi)
        for tag, value in ((tiff.XMP, metadata.xmp), (tiff.IPTC, metadata.iptc), (tiff.ICC, photo.icc)):
            tiff.put_bytes(directory, tag, value)
        if metadata.comment and tiff.DESCRIPTION not in directory.entries:
            tiff.put_text(directory, tiff.DESCRIPTION, metadata.comment)
        elif metadata.comment:
            notes.add("the comment is left out: TIFF holds one description, and there is one")
        notes |= set(_chunks_left_out(metadata, "TIFF"))
        stored.append((_channels(photo), directory))
        colours.append(1 if photo.gray else 3)
    return tiff.write(stored, colours), tuple(sorted(notes))


def _chunks_left_out(metadata: Metadata, name: str) -> Notes:
    notes: Notes = ()
    keys = [content.split(b"\0")[0].decode("latin-1") for kind, content in metadata.png if kind in png.TEXT]
    if keys:
        shown = ", ".join(dict.fromkeys(keys[:5]))
        notes += (f"text of PNG ({shown}) is left out: {name} has no place for it",)
    meanings = png.unusual_meanings(metadata.png)
    if meanings:
        notes += (f"what PNG says of its colours ({', '.join(meanings)}) is left out: {name} has no place for it",)
    return notes


def _channels(photo: Photo) -> NDArray[Any]:
    """[H, W, 1 to 4]: gray or RGB, then alpha."""
    colours = photo.pixels[..., :1] if photo.gray else photo.pixels
    return colours if photo.alpha is None else np.concatenate([colours, photo.alpha[..., None]], axis=2)


def _image(photo: Photo) -> Image.Image:
    channels = _channels(photo)
    return Image.fromarray(np.ascontiguousarray(channels if channels.shape[2] > 1 else channels[..., 0]))


def _saved(image: Image.Image, name: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **settings)
    return file.getvalue()


def _moving(pages: Pages, frames: Sequence[Photo]) -> dict[str, Any]:
    """Pillow's settings for an animation; none for one picture."""
    if len(frames) == 1:
        return {}
    rest = [_image(frame) for frame in frames[1:]]
    durations = [round(duration) for duration in pages.durations]
    return {"save_all": True, "append_images": rest, "duration": durations, "loop": pages.loops}


def _all_eight_bits(photos: Sequence[Photo]) -> tuple[list[Photo], Notes]:
    """Frames of 8 bits, all of the first one's kind, or with more channels where one needs them."""
    pairs = [_eight_bits(photo) for photo in photos]
    frames, notes = [photo for photo, _ in pairs], tuple(dict.fromkeys(note for _, more in pairs for note in more))
    gray, clear = all(f.gray for f in frames), any(f.alpha is not None for f in frames)
    full = [
        replace(
            f, gray=gray, alpha=np.full(f.pixels.shape[:2], 255, np.uint8) if clear and f.alpha is None else f.alpha
        )
        for f in frames
    ]
    return full, notes


def _eight_bits(photo: Photo) -> tuple[Photo, Notes]:
    if photo.pixels.dtype == np.uint8:
        return photo, ()
    alpha = None if photo.alpha is None else to_8_bits(photo.alpha)
    return replace(photo, pixels=to_8_bits(photo.pixels), alpha=alpha), ("16 bits a channel become 8",)


def _coloured(photo: Photo) -> Photo:
    """Three channels; a gray profile, which cannot describe them, is applied."""
    if photo.gray and photo.icc and space(photo.icc) == "gray":
        image = to_srgb(Image.fromarray(np.ascontiguousarray(photo.pixels[..., 0])), photo.icc)
        pixels = photo.pixels if image is None else np.asarray(image)
        return replace(photo, pixels=pixels, gray=False, icc=None)
    return replace(photo, gray=False, icc=None if photo.gray else photo.icc)
