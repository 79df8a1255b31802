"""The files of `fuzz_photos.py`: intact ones of 26 kinds, and damage by a seeded draw."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from quantface_core.io.photos import Metadata, Pages, Photo, png, tiff, write_pages
from quantface_core.io.photos.ifd import Directory, header, pack


def _ramp() -> np.ndarray:
    y, x = np.mgrid[:40, :56]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8)


def _saved(form: str, mode: str = "RGB", **settings: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_ramp()).convert(mode).save(file, form, **settings)
    return file.getvalue()


def _animated(form: str, **settings: Any) -> bytes:
    frames = [Image.fromarray(np.roll(_ramp(), 9 * i, 1)) for i in range(3)]
    return _saved_frames(frames, form, **settings)


def _saved_frames(frames: list[Image.Image], form: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:], **settings)
    return file.getvalue()


def _ours(name: str, photos: tuple[Photo, ...]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_pages(Pages(photos), path)
        return path.read_bytes()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    exif.get_ifd(0x8769)[0x9003] = "2026:11:26 10:00:00"
    return exif.tobytes()


def _text_png() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a portrait")
    info.add_text("workflow", "{}" * 99, zip=True)
    return _saved("PNG", pnginfo=info, exif=_exif(), dpi=(300, 300))


def _layout(bits: int, kind: int, planar: bool, photometric: int = 2) -> bytes:
    """A TIFF with one strip per plane, laid out as its tags say: floats, 32 bits, planes, inverted gray."""
    data = _ramp()[..., :1] if photometric < 2 else _ramp()
    values = data / 255 if kind == 3 else data.astype(np.uint64) << (bits - 8)
    values = values.astype(f"<{'f' if kind == 3 else 'u'}{bits // 8}")
    values = np.ascontiguousarray(values.transpose(2, 0, 1)) if planar else values
    height, width, channels = data.shape
    tags = Directory("<")
    planes = channels if planar else 1
    each = values.nbytes // planes
    pairs = [(tiff.WIDTH, width), (tiff.HEIGHT, height), (tiff.COMPRESSION, 1), (tiff.PHOTOMETRIC, photometric)]
    pairs += [(tiff.SAMPLES, channels), (tiff.ROWS, height), (tiff.PLANAR, 2 if planar else 1)]
    for tag, value in pairs:
        tags.put(tag, 4, value)
    tags.put(tiff.BITS, 3, *[bits] * channels)
    tags.put(tiff.FORMAT, 3, *[kind] * channels)
    tags.put(tiff.STRIPS, 4, *[8 + i * each for i in range(planes)])
    tags.put(tiff.STRIP_BYTES, 4, *[each] * planes)
    place = 8 + values.nbytes
    return header("<", place) + values.tobytes() + pack(tags, place)


def _deep() -> np.ndarray:
    return _ramp().astype(np.uint16) * 257


def kinds() -> dict[str, Callable[[], bytes]]:
    """Functions that make an intact file of each kind."""
    dotted = Photo(_deep(), _deep()[..., 0].copy(), metadata=Metadata(dpi=(300.0, 300.0), xmp=b"<x:xmpmeta/>"))
    return {
        "jpeg": lambda: _saved("JPEG", quality=90),
        "jpeg, progressive": lambda: _saved("JPEG", quality=90, progressive=True),
        "jpeg, gray": lambda: _saved("JPEG", "L"),
        "jpeg, CMYK": lambda: _saved("JPEG", "CMYK"),
        "jpeg, camera data": lambda: _saved("JPEG", exif=_exif(), comment="a comment", dpi=(300, 300)),
        "mpo": lambda: _animated("MPO"),
        "png": lambda: _saved("PNG"),
        "png, palette": lambda: _saved("PNG", "P", transparency=3),
        "png, text": _text_png,
        "png, 16 bits": lambda: png.encode(_deep()),
        "png, 16 bits gray alpha": lambda: png.encode(_deep()[..., :2]),
        "apng": lambda: _animated("PNG", duration=50),
        "webp": lambda: _saved("WEBP", exif=_exif()),
        "webp, moving": lambda: _animated("WEBP", lossless=True, duration=50),
        "tiff, LZW": lambda: _saved("TIFF", compression="tiff_lzw"),
        "tiff, JPEG": lambda: _saved("TIFF", compression="jpeg"),
        "tiff, bits": lambda: _saved("TIFF", "1", compression="group4"),
        "tiff, 16 bits planar": lambda: _layout(16, 1, True),
        "tiff, inverted": lambda: _layout(16, 1, False, photometric=0),
        "tiff, floats": lambda: _layout(32, 3, False),
        "tiff, pages": lambda: _ours("a.tif", (dotted, dotted, Photo(_ramp()))),
        "gif": lambda: _saved("GIF", "P"),
        "gif, moving": lambda: _animated("GIF", duration=50),
        "bmp": lambda: _saved("BMP"),
        "avif": lambda: _saved("AVIF"),
        "jpeg 2000": lambda: _saved("JPEG2000"),
    }


def damaged(whole: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """A file with one kind of damage, or several."""
    data = bytearray(whole)
    for _ in range(int(random.geometric(0.6))):
        size = len(data)
        if size < 8:
            break
        start = int(random.integers(size if random.random() < 0.5 else min(size, 200)))
        length = int(random.integers(1, 40))
        choice = int(random.integers(8))
        if choice == 0:
            del data[max(1, start) :]
        elif choice == 1:
            for i in random.integers(0, size, int(random.integers(1, 9))):
                data[i] ^= 1 << int(random.integers(8))
        elif choice == 2:
            data[start : start + length] = random.bytes(length)
        elif choice == 3:
            del data[start : start + length]
        elif choice == 4:
            data[start:start] = data[start : start + length]
        elif choice == 5:
            extreme = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\1\0")
            data[start : start + 4] = extreme[int(random.integers(5))]
        elif choice == 6:
            data[start:] = other[int(random.integers(len(other))) :]
        else:
            data[start : start + length] = b"\0" * length
    return bytes(data)
