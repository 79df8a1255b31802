"""TIFF's tags, and its pixels as numbers, whatever their depth and layout.

Pillow knows no colour above 8 bits, and OpenCV misreads planar and inverted pictures without an error. Here
libtiff, inside Pillow, only decompresses: each plane is shown to it as a gray picture of bytes. What those bytes
mean is decided here. `tifffile` would do it too, but needs imagecodecs' 26 MB for LZW.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from ...errors import ImageError
from .exif import ORIENTATION
from .ifd import CHILDREN, LONG, SHORT, Buffer, Directory, chosen, header, pack

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, DESCRIPTION = 254, 256, 257, 258, 259, 262, 266, 270
STRIPS, SAMPLES, ROWS, STRIP_BYTES, X_DPI, Y_DPI, PLANAR, DPI_UNIT = 273, 277, 278, 279, 282, 283, 284, 296
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SUB_IFDS, EXTRA, FORMAT = 317, 322, 323, 324, 325, 330, 338, 339
LEAST_SAMPLE, MOST_SAMPLE, XMP, IPTC, ICC, DNG = 340, 341, 700, 33723, 34675, 50706

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
DEFLATE, HORIZONTAL, FLOATING = 8, 2, 3  # a compression and two predictors
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, CMYK: 4}
_BYTE_CODECS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, Deflate twice, PackBits, LZMA, ZSTD
_UNCOMPRESSED, _OLD_JPEG = 1, 6
_UNTOLD = 1 << 32  # bytes, more than any block has
_FORMATS = {1: "u", 2: "i", 3: "f", 4: "u"}


@dataclass(frozen=True)
class Samples:
    """A picture's numbers, scaled to their dtype's full range, black 0."""

    values: NDArray[Any]  # [H, W, 1, 3 or 4] uint8 or uint16: gray, RGB or CMYK
    alpha: NDArray[Any] | None  # [H, W], of the same dtype, not multiplied into the colours
    notes: tuple[str, ...] = ()


def is_raw(directory: Directory) -> bool:
    """Whether a first directory is a camera's raw file's, whose readable picture is only a preview."""
    reduced = directory.number(SUBFILE) & 1
    return DNG in directory.entries or bool(reduced and SUB_IFDS in directory.entries)


def pages(found: list[Directory]) -> list[Directory]:
    """The directories that are pages: no smaller copies unless all are, no masks of others."""
    pictures = [d for d in found if WIDTH in d.entries and not d.number(SUBFILE) & 0b100]
    return [d for d in pictures if not d.number(SUBFILE) & 1] or pictures


def readable(directory: Directory) -> bool:
    """Whether `read` knows the layout; the rest (palettes, YCbCr, JPEG, bits) is Pillow's, up to 8 bits."""
    bits, formats = set(directory.numbers(BITS, (1,))), set(directory.numbers(FORMAT, (1,)))
    return (
        directory.number(PHOTOMETRIC, -1) in _COLOURS
        and directory.number(COMPRESSION, 1) in _BYTE_CODECS
        and len(bits) == 1
        and bits <= {8, 16, 32, 64}
        and len(formats) == 1
        and formats <= set(_FORMATS)
    )


def describe(directory: Directory) -> str:
    """The layout in words, for one that is refused."""
    bits = "/".join(str(b) for b in directory.numbers(BITS, (1,))[:5])
    return f"TIFF of {bits} bits, photometric {directory.number(PHOTOMETRIC, -1)}, " + (
        f"compression {directory.number(COMPRESSION, 1)}, sample format {directory.number(FORMAT, 1)}"
    )


def read(data: Buffer, directory: Directory) -> Samples:
    """The numbers of a page that is `readable`. Raises ImageError and ValueError."""
    photometric = directory.number(PHOTOMETRIC)
    colours, samples = _COLOURS[photometric], directory.number(SAMPLES, 1)
    if samples < colours:
        raise ImageError(f"damaged: {samples} channels where its colours need {colours}")
    values = _planes(data, directory, samples)
    values, notes = _full_range(values, directory)
    extra = directory.numbers(EXTRA)
    # Writers that say nothing of a fourth channel mean alpha; one that says it is unspecified does not.
    kind = (extra[0] if extra else 2) if samples > colours else None
    picture = values[..., :colours]
    white = np.iinfo(picture.dtype).max
    if photometric == WHITE_IS_ZERO:
        picture = white - picture
    alpha = values[..., colours].copy() if kind in (1, 2) else None
    if kind == 1 and alpha is not None:
        picture = _unmultiplied(picture, alpha)
    left_out = samples - colours - (alpha is not None)
    if left_out:
        notes += (f"{left_out} channels beside colour and alpha are left out",)
    return Samples(np.ascontiguousarray(picture), alpha, notes)


def _unmultiplied(picture: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    white = np.iinfo(picture.dtype).max
    over = np.maximum(alpha, 1).astype(np.uint32)[..., None]
    whole = (picture.astype(np.uint32) * np.uint32(white) + over // 2) // over
    return np.minimum(whole, white).astype(picture.dtype)


def _full_range(values: NDArray[Any], directory: Directory) -> tuple[NDArray[Any], tuple[str, ...]]:
    """8 and 16 bits as they are, others as 16. Raises ImageError where no range is told."""
    if values.dtype.kind == "u":
        bits = values.dtype.itemsize * 8
        if bits <= 16:
            return values, ()
        return (values >> np.asarray(bits - 16, values.dtype)).astype(np.uint16), (f"{bits} bits become 16",)
    if values.dtype.kind == "i":
        raise ImageError("its numbers are signed, and what is black is not said: convert it to 8 or 16 bits")
    low, high = (directory.numbers(tag)[:1] for tag in (LEAST_SAMPLE, MOST_SAMPLE))
    return from_floats(values, float(low[0]) if low else 0.0, float(high[0]) if high else 1.0)


def from_floats(values: NDArray[Any], low: float = 0.0, high: float = 1.0) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Numbers from `low` (black) to `high` (white) as 16 bits. Raises ImageError for what lies beyond."""
    if not np.isfinite(values).all():
        raise ImageError("some of its numbers are infinite or not a number")
    # The range declared is often the range found; a darker picture than white is no reason to stretch it.
    low, high = min(low, 0.0) if low >= 0 else low, max(high, 1.0)
    least, most = float(values.min()), float(values.max())
    slack = 0.001 * (high - low)
    if least < low - slack or most > high + slack:
        span = f"{least:g} to {most:g}, and black and white are {low:g} and {high:g}"
        raise ImageError(f"its numbers go from {span}: map its tones to 16 bits first")
    scaled = np.clip((values.astype(np.float64) - low) * (65535 / (high - low)), 0, 65535)
    return np.rint(scaled).astype(np.uint16), ("floating point becomes 16 bits",)


def _planes(data: Buffer, directory: Directory, samples: int) -> NDArray[Any]:
    """[H, W, samples] as stored, in this machine's byte order."""
    planar = directory.number(PLANAR, 1) == 2 and samples > 1
    if not planar:
        return _plane(data, directory, samples, 0, 1)
    return np.concatenate([_plane(data, directory, 1, i, samples) for i in range(samples)], axis=2)


def _plane(data: Buffer, directory: Directory, samples: int, index: int, planes: int) -> NDArray[Any]:
    width, height = directory.number(WIDTH), directory.number(HEIGHT)
    kind = _FORMATS[directory.number(FORMAT, 1)]
    stored = np.dtype(f"{directory.order}{kind}{directory.number(BITS, 1) // 8}")
    tiled = TILES in directory.entries
    across = directory.number(TILE_WIDTH) if tiled else width
    if across < 1:
        raise ImageError("damaged: its tiles have no width")
    blocks = -(-width // across)
    pixel = samples * stored.itemsize
    found = _decompressed(data, directory, (blocks * across * pixel, height), across * pixel, index, planes)
    rows = found.reshape(height, blocks, across * pixel)
    predictor = directory.number(PREDICTOR, 1)
    if predictor == FLOATING and kind == "f":
        values = _unpredicted_floats(rows, samples, stored.itemsize)
    else:
        values = rows.view(stored).astype(stored.newbyteorder("="))
        if predictor == HORIZONTAL and kind != "f":
            lanes = values.reshape(height, blocks, across, samples)
            values = np.add.accumulate(lanes, axis=2, dtype=values.dtype)
        elif predictor != 1:
            raise ImageError(f"it uses the predictor {predictor}, which this cannot undo: save it without")
    return values.reshape(height, blocks * across, samples)[:, :width]


def _unpredicted_floats(rows: NDArray[np.uint8], samples: int, size: int) -> NDArray[Any]:
    """Undo Adobe's predictor: bytes in planes, the highest first, each less its neighbour of the same channel."""
    height, blocks, length = rows.shape
    lanes = rows.reshape(height, blocks, length // samples, samples)
    planes = np.add.accumulate(lanes, axis=2, dtype=np.uint8).reshape(height, blocks, size, length // size)
    return np.ascontiguousarray(planes.swapaxes(2, 3)).view(f">f{size}").astype(f"=f{size}")


def _decompressed(
    data: Buffer, directory: Directory, size: tuple[int, int], block: int, index: int, planes: int
) -> NDArray[np.uint8]:
    """The bytes of a plane, by showing it to libtiff as a gray picture of `size` in blocks `block` bytes wide."""
    places, lengths = _blocks(directory)
    each = len(places) // planes
    mine = slice(index * each, (index + 1) * each)
    shown = Directory("<")
    for tag, value in ((WIDTH, size[0]), (HEIGHT, size[1]), (BITS, 8), (PHOTOMETRIC, 1), (SAMPLES, 1)):
        shown.put(tag, LONG, value)
    shown.put(COMPRESSION, SHORT, directory.number(COMPRESSION, _UNCOMPRESSED))
    shown.put(FILL_ORDER, SHORT, directory.number(FILL_ORDER, 1))
    if TILES in directory.entries:
        shown.put(TILE_WIDTH, LONG, block)
        shown.put(TILE_HEIGHT, LONG, directory.number(TILE_HEIGHT))
        shown.put(TILES, LONG)
    else:
        shown.put(ROWS, LONG, min(directory.number(ROWS, size[1]), size[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = TiffImagePlugin.TiffImageFile(_file(data, shown, places[mine], lengths[mine]))
        pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.shape != size[::-1]:
        raise ImageError("damaged: its pixels are not where it says")
    return pixels


def alone(data: Buffer, directory: Directory) -> io.BytesIO:
    """A page as a file of its own, without what says how to turn it. Raises ImageError and ValueError."""
    tags = chosen(directory, directory.entries.keys() - {ORIENTATION, XMP, SUB_IFDS, *CHILDREN})
    if directory.number(COMPRESSION) == _OLD_JPEG:  # whose tags are places of the file
        place = len(data) + len(data) % 2
        whole = (header(tags.order, place), data[8:], b"\0" * (place - len(data)), pack(tags, place))
        return io.BytesIO(b"".join(whole))
    return _file(data, tags, *_blocks(directory))


def _blocks(directory: Directory) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where a page's strips or tiles lie, and their bytes at most. Raises ImageError where it does not say."""
    tiled = TILES in directory.entries
    places, lengths = (directory.numbers(t) for t in ((TILES, TILE_BYTES) if tiled else (STRIPS, STRIP_BYTES)))
    if not places:
        raise ImageError("damaged: it does not say where its pixels lie")
    told = lengths if len(lengths) == len(places) else (0,) * len(places)
    least = 0
    if directory.number(COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED:  # then what is told may be wrong
        height = directory.number(HEIGHT)
        rows = directory.number(TILE_HEIGHT) if tiled else min(directory.number(ROWS, height), height)
        bits = max(directory.numbers(BITS, (1,))) * directory.number(SAMPLES, 1)
        least = rows * -(-directory.number(TILE_WIDTH if tiled else WIDTH) * bits // 8)
    return places, tuple(max(length, least) or _UNTOLD for length in told)  # some writers leave them 0


def _file(data: Buffer, tags: Directory, places: Sequence[int], lengths: Sequence[int]) -> io.BytesIO:
    """A TIFF of one page, which has the blocks at `places` of `data`; each ends where the next begins, if not before.

    They keep their order, so that what reaches over its end finds there what it found in `data`.
    """
    if not places or not 0 <= min(places) <= max(places) < len(data):
        raise ImageError("damaged: its pixels are not where it says")
    starts = sorted(set(places))
    room = dict(zip(starts, np.diff([*starts, len(data)]).tolist(), strict=True))
    lengths = [min(length, room[place]) for place, length in zip(places, lengths, strict=True)]
    longest = dict.fromkeys(starts, 0)
    for place, length in zip(places, lengths, strict=True):
        longest[place] = max(longest[place], length)
    place_tag, length_tag = (TILES, TILE_BYTES) if TILES in tags.entries else (STRIPS, STRIP_BYTES)
    tags.put(length_tag, LONG, *lengths)
    tags.put(place_tag, LONG, *[0] * len(places))  # for now: they follow from the directory's length
    ends = list(accumulate(longest.values(), initial=8 + len(pack(tags, 8))))
    if ends[-1] >= 1 << 32:
        raise ImageError("larger than 4 GB")
    moved = dict(zip(starts, ends[:-1], strict=True))
    tags.put(place_tag, LONG, *(moved[place] for place in places))
    file = io.BytesIO()
    file.write(header(tags.order) + pack(tags, 8))
    for start, length in longest.items():
        file.write(data[start : start + length])
    file.seek(0)
    return file


def resolution(directory: Directory) -> tuple[float, float] | None:
    """Dots an inch; None where only their ratio is told."""
    x, y = directory.numbers(X_DPI), directory.numbers(Y_DPI)
    inches = {2: 1.0, 3: 2.54}.get(directory.number(DPI_UNIT, 2))
    if inches is None or len(x) < 2 or len(y) < 2 or not x[1] or not y[1] or not x[0] or not y[0]:
        return None
    return x[0] / x[1] * inches, y[0] / y[1] * inches
