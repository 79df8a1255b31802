"""Read picture files of any kind: upright once, colours as they are meant, and what else the file says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ...bit_depth import to_8_bits
from ...errors import ImageError
from ..file_diagnosis import diagnose_image_file
from . import boxes, exif, jpeg, metadata, photo, png, tiff
from .colour import as_rgb
from .ifd import Buffer, Directory, directories, mapped
from .photo import RAW, READABLE, Pages, Photo, check_size
from .plugins import FORMATS, missing_plugin, register_plugins, stored_bits

_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and Big
_MOST_PAGES = 10_000
_RAW_FILE = "a camera's raw file: develop it to TIFF, PNG or JPEG first"


def read_photo(path: Path) -> Photo:
    """Read a photo, the first one where a file holds several, which its notes then say.

    Raises ImageError, one line, when it is missing, broken, too large, no picture or cannot be read right.
    """
    pages, count = _read(path, most=1)
    first = pages.photos[0]
    return replace(first, notes=(*first.notes, f"only the first of {count} pictures is read")) if count > 1 else first


def read_pages(path: Path) -> Pages:
    """Read every page or frame of a file. Raises ImageError like `read_photo`."""
    return _read(path, most=None)[0]


def _read(path: Path, most: int | None) -> tuple[Pages, int]:
    """At most so many pictures of a file, and how many it holds."""
    path = Path(path)  # a string will do
    with _told(path):
        if path.suffix.lower() in RAW:
            raise ImageError(_RAW_FILE)
        with path.open("rb") as file:
            start = file.read(4)
        if not start:
            raise ImageError("the file is empty")
        if start in _TIFF_STARTS:
            return _read_tiff(path, most)
        with _opened(path) as image:
            return _read_frames(path, image, most)


def _read_frames(path: Path, image: Image.Image, most: int | None) -> tuple[Pages, int]:
    start = 1 if image.info.get("default_image") else 0  # of an APNG, shown only where it does not move
    count = max(1, _count(image) - start)
    wanted = count if most is None else min(count, most)
    check_size(image.width, image.height, wanted)
    photos, durations = [], []
    for i in range(start, start + wanted):
        if i:
            image.seek(i)
        photos.append(_photo(path, image))
        durations.append(float(image.info.get("duration") or 0))
    # GIF without a number of loops is shown once; the others say 0 for ever, or how often.
    loops = int(image.info.get("loop", 1 if image.format == "GIF" else 0) or 0)
    return Pages(tuple(photos), tuple(durations) if len(photos) > 1 else (), loops), count


def _read_tiff(path: Path, most: int | None) -> tuple[Pages, int]:
    with mapped(path) as data:
        found = list(islice(directories(data), _MOST_PAGES))
        if found and (tiff.is_raw(found[0]) or data[8:10] == b"CR"):
            raise ImageError(_RAW_FILE)
        pages = tiff.pages(found)
        if not pages:
            raise ImageError("damaged: it has no page")
        sizes = [(page.number(tiff.WIDTH), page.number(tiff.HEIGHT)) for page in pages[:most]]
        for width, height in sizes:
            check_size(width, height)
        check_size(*max(sizes, key=lambda size: size[0] * size[1]), len(sizes))
        return Pages(tuple(_page(data, page) for page in pages[:most])), len(pages)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Every failure as one line of ImageError with the photo's name: decoders and plugins raise what they please."""
    try:
        with warnings.catch_warnings():
            # Sizes are checked with a message of their own; what is damaged either shows or does not matter.
            warnings.simplefilter("ignore")
            yield
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder, not a picture") from None
    except PermissionError:
        raise ImageError(f"{path}: permission denied") from None
    except UnidentifiedImageError:
        hint = missing_plugin(path) or diagnose_image_file(path)
        hint = hint or f"damaged, or not a picture this can read ({', '.join(READABLE)})"
        raise ImageError(f"{path}: {hint}") from None
    except Image.DecompressionBombError:
        limit = photo.MAX_PIXELS // 1_000_000
        raise ImageError(f"{path}: more than {limit} megapixels; shrink or crop it first") from None
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except MemoryError:
        raise ImageError(f"{path}: out of memory") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: damaged or incomplete picture ({reason:.200})") from error


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    if missing_plugin(path):
        register_plugins()
    Image.init()
    with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
        check_size(image.width, image.height)
        yield image


def _count(image: Image.Image) -> int:
    """Frames, but not layers, previews or gain maps."""
    return int(getattr(image, "n_frames", 1)) if image.format in _ANIMATED else 1


def _page(data: Buffer, directory: Directory) -> Photo:
    said = metadata.of_tiff(directory)
    packet = directory.content(tiff.XMP)
    turn = exif.orientation(directory) if exif.ORIENTATION in directory.entries else metadata.turn_of_xmp(packet)
    if tiff.readable(directory):
        found = _of_samples(tiff.read(data, directory), directory.content(tiff.ICC))
    else:
        # Pillow knows no such colours, and would clip them without a word.
        if max(directory.numbers(tiff.BITS, (1,))) > 8 or directory.number(tiff.FORMAT, 1) not in (1, 4):
            raise ImageError(f"{tiff.describe(directory)}: not read, convert it to RGB of 8 or 16 bits")
        # Pillow turns some of these upright and others not: the tag and XMP's word are hidden from it.
        with Image.open(tiff.alone(data, directory), formats=["TIFF"]) as image:
            found = _plain(image)
    return replace(_turned(found, turn), exif=exif.from_tiff(directory), metadata=said)


def _of_samples(samples: tiff.Samples, icc: bytes | None) -> Photo:
    values, channels = samples.values, samples.values.shape[2]
    if channels == 4:
        image, icc, notes = as_rgb(Image.fromarray(to_8_bits(values), "CMYK"), icc)
        alpha = None if samples.alpha is None else to_8_bits(samples.alpha)
        notes += ("16 bits a channel become 8",) if values.dtype == np.uint16 else ()
        return Photo(np.asarray(image), alpha, False, icc, notes=(*samples.notes, *notes))
    icc, notes = _fitting(icc, channels == 1)
    pixels = np.repeat(values, 3, axis=2) if channels == 1 else values
    return Photo(pixels, samples.alpha, channels == 1, icc, notes=(*samples.notes, *notes))


def _photo(path: Path, image: Image.Image) -> Photo:
    """The picture that is open, at its frame."""
    image.load()  # some decoders turn the picture, and say so only afterwards
    _complete(path, image)
    notes: tuple[str, ...] = ()
    said = metadata.of_image(path, image)
    blob = image.info.get("exif")
    camera = exif.parse(blob) if isinstance(blob, bytes) else None  # Pillow raises where it is damaged
    turn = exif.orientation(camera) if camera and exif.ORIENTATION in camera.entries else None
    deep = None
    if image.format == "PNG":
        deep = _deep_png(path, image)
        _scale_clear(path, image)
    found = deep or _plain(image)
    bits = stored_bits(path, image)
    if bits > 8 and found.pixels.dtype == np.uint8:
        notes += (f"{bits} bits a channel are read as 8",)
    others = int(getattr(image, "n_frames", 1)) - 1
    if others > 0 and not _count(image) > 1:
        notes += (f"{others} more pictures or layers in the file (such as a gain or depth map) are left out",)
    if image.format in ("JPEG", "MPO"):
        with mapped(path) as data:
            behind = jpeg.left_out(data, pictures=not others)
        notes += (behind,) if behind else ()
    upright = exif.upright(blob) if isinstance(blob, bytes) else None
    if blob is not None and upright is None:
        notes += ("camera data (EXIF) are damaged and left out",)
    found = _turned(found, turn or metadata.turn_of_xmp(metadata.packet(image)))
    return replace(found, exif=upright, metadata=said, notes=(*found.notes, *notes))


def _complete(path: Path, image: Image.Image) -> None:
    """What Pillow passes over, put where it keeps the like: ImageMagick's EXIF of PNG, JPEG 2000's profile."""
    raw = image.info.pop(png.RAW_EXIF, None)
    if isinstance(raw, str) and not image.info.get("exif"):
        image.info["exif"] = png.from_raw(raw)
    if image.format == "JPEG2000":
        with mapped(path) as data:
            icc = boxes.jp2_profile(data)
        image.info.update({"icc_profile": icc} if icc else {})


def _scale_clear(path: Path, image: Image.Image) -> None:
    """A clear gray of 2 or 4 bits, as Pillow leaves it, in the 8 bits to which it widens the picture."""
    bits, clear = png.header(path)[0], image.info.get("transparency")
    if image.mode == "L" and bits in (2, 4) and isinstance(clear, int):
        image.info["transparency"] = clear * 255 // ((1 << bits) - 1)


def _deep_png(path: Path, image: Image.Image) -> Photo | None:
    bits, kind = png.header(path)
    deep = png.read_16_bits(path) if bits == 16 and getattr(image, "n_frames", 1) == 1 else None
    if deep is None:
        return None
    alpha = np.ascontiguousarray(deep[..., 3]) if deep.ndim == 3 and deep.shape[2] == 4 else None
    gray = kind in (0, 4)
    pixels = np.repeat(deep.reshape(*deep.shape[:2], -1)[..., :1], 3, axis=2) if gray else deep[..., :3]
    if alpha is None:
        alpha = png.transparent_16_bits(path, pixels[..., :1] if gray else pixels)
    icc, notes = _fitting(image.info.get("icc_profile"), gray)
    return Photo(np.ascontiguousarray(pixels), alpha, gray, icc, notes=notes)


def _plain(image: Image.Image) -> Photo:
    """What Pillow decoded, of any of its modes."""
    icc = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        values, notes = _wide(image)
        icc, more = _fitting(icc, True)
        return Photo(np.repeat(values[..., None], 3, axis=2), gray=True, icc=icc, notes=(*notes, *more))
    image, icc, notes = as_rgb(image, icc)
    values = np.asarray(image)
    gray, alpha = image.mode in ("L", "LA"), None
    if image.mode in ("LA", "RGBA"):
        alpha = np.ascontiguousarray(values[..., -1])
        values = values[..., :-1]
    if gray:
        values = np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2)
    return Photo(np.ascontiguousarray(values), alpha, gray, icc, notes=notes)


def _wide(image: Image.Image) -> tuple[NDArray[Any], tuple[str, ...]]:
    """One channel of more than 8 bits: [H, W] uint16."""
    values = np.asarray(image)
    if image.mode == "F":
        return tiff.from_floats(values)
    if int(values.min()) < 0 or int(values.max()) > 0xFFFF:
        raise ImageError("its numbers do not fit 16 bits, and what is white is not said: convert it first")
    return values.astype(np.uint16), ()


def _fitting(icc: bytes | None, gray: bool) -> tuple[bytes | None, tuple[str, ...]]:
    """A profile, unless it describes other channels."""
    _, kept, notes = as_rgb(Image.new("L" if gray else "RGB", (1, 1)), icc)
    return kept, notes


def _turned(found: Photo, orientation: int) -> Photo:
    if orientation == 1:
        return found
    alpha = None if found.alpha is None else _upright(found.alpha, orientation)
    return replace(found, pixels=_upright(found.pixels, orientation), alpha=alpha)


def _upright(data: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation (1 to 8) to [H, W, ...]."""
    if orientation in (5, 6, 7, 8):
        data = data.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        data = data[:, ::-1]
    if orientation in (3, 4, 7, 8):
        data = data[::-1]
    return np.ascontiguousarray(data)
