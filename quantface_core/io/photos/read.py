"""Read image files of any kind: turned upright once, colours as intended, and with their metadata."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ...errors import ImageError, one_line
from ..file_diagnosis import diagnose_image_file
from . import limits, tiff
from .frame import count_frames, read_frame, read_shared
from .ifd import directories, mapped
from .limits import check_size, check_sizes, check_total
from .photo import RAW, READABLE, Pages, Photo
from .plugins import FORMATS, missing_plugin, register_plugins
from .png_texts import without_texts
from .quiet import quiet
from .tiff_page import read_page

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and Big
_MOST_PAGES = 10_000
_RAW_FILE = "a camera raw file: develop it to TIFF, PNG or JPEG first"


def read_photo(path: str | Path) -> Photo:
    """Read a photo; the first one where a file holds several, which its notes then say.

    Raises ImageError, one line, when it is missing, broken, too large, not an image, or cannot be decoded correctly.
    """
    pages, count = _read(Path(path), most=1)
    first = pages.photos[0]
    return replace(first, notes=(*first.notes, f"only the first of {count} pictures is read")) if count > 1 else first


def read_pages(path: str | Path) -> Pages:
    """Read every page or frame of a file. Raises ImageError like `read_photo`."""
    return _read(Path(path), most=None)[0]


def _read(path: Path, most: int | None) -> tuple[Pages, int]:
    """The first `most` images of a file (None = all), and how many it holds."""
    with _image_errors(path):
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
    start = 1 if image.info.get("default_image") else 0  # an APNG's still image, for viewers that do not animate
    count = max(1, count_frames(image) - start)
    wanted = count if most is None else min(count, most)
    check_total(image.width * image.height * wanted, wanted)
    photos, durations, shared = [], [], None
    for i in range(start, start + wanted):
        if i:
            image.seek(i)
        shared = shared or read_shared(path, image)
        photos.append(read_frame(path, image, shared))
        durations.append(float(image.info.get("duration") or 0))
    # A GIF without a loop count is shown once; other formats give the count, or 0 for ever.
    loops = int(image.info.get("loop", 1 if image.format == "GIF" else 0) or 0)
    return Pages(tuple(photos), tuple(durations) if len(photos) > 1 else (), loops), count


def _read_tiff(path: Path, most: int | None) -> tuple[Pages, int]:
    with mapped(path) as data:
        found = list(islice(directories(data), _MOST_PAGES + 1))
        if found and (tiff.is_raw(found[0]) or data[8:10] == b"CR"):
            raise ImageError(_RAW_FILE)
        if len(found) > _MOST_PAGES:
            raise ImageError(f"more than {_MOST_PAGES} pages; split it first")
        pages = tiff.pages(found)
        if not pages:
            raise ImageError("damaged: it has no page")
        check_sizes([(page.number(tiff.WIDTH), page.number(tiff.HEIGHT)) for page in pages[:most]])
        return Pages(tuple(read_page(data, page) for page in pages[:most])), len(pages)


@contextmanager
def _image_errors(path: Path) -> Iterator[None]:
    """Turn every failure into one line of ImageError with the photo's name: decoders and plugins raise anything."""
    try:
        with quiet:  # sizes are checked here, with a message of our own; damage either raises or does not matter
            yield
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except (IsADirectoryError, PermissionError):  # the second on Windows, for a folder too
        reason = "is a folder, not a picture" if path.is_dir() else "permission denied"
        raise ImageError(f"{path}: {reason}") from None
    except UnidentifiedImageError:
        hint = missing_plugin(path) or diagnose_image_file(path)
        hint = hint or f"damaged, or not a picture this can read ({', '.join(READABLE)})"
        raise ImageError(f"{path}: {hint}") from None
    except Image.DecompressionBombError:
        limit = limits.MAX_PIXELS // 1_000_000
        raise ImageError(f"{path}: more than {limit} megapixels; shrink or crop it first") from None
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except MemoryError:
        raise ImageError(f"{path}: out of memory") from None
    except Exception as error:
        raise ImageError(f"{path}: damaged or incomplete picture ({one_line(error)})") from error


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    if missing_plugin(path):
        register_plugins()
    Image.init()
    file, info = without_texts(path) or (path, {})
    with Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
        image.info.update(info)
        check_size(image.size)
        yield image
