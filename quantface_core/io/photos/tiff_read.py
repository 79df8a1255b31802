"""Read the pixel values of a TIFF page, of any depth and layout.

Pillow supports no colour above 8 bits, and OpenCV silently misreads planar and inverted images. Here libtiff, inside
Pillow, only decompresses: each plane is presented to it as a gray image of bytes, which are interpreted here.
`tifffile` could do this too, but needs imagecodecs' 26 MB for LZW.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from ...errors import ImageError
from . import tiff
from .ifd import LONG, SHORT, Buffer, Directory
from .quiet import quiet
from .tiff_blocks import blocks_of, with_blocks

_COLORS = {tiff.WHITE_IS_ZERO: 1, tiff.BLACK_IS_ZERO: 1, tiff.RGB: 3, tiff.CMYK: 4}
_BYTE_CODECS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, Deflate twice, PackBits, LZMA, ZSTD
_FORMATS = {1: "u", 2: "i", 3: "f", 4: "u"}


@dataclass(frozen=True)
class Samples:
    """An image's values, scaled to their dtype's full range; gray and RGB have black at 0."""

    values: NDArray[Any]  # [H, W, 1, 3 or 4] uint8 or uint16: gray, RGB or CMYK
    alpha: NDArray[Any] | None  # [H, W], of the same dtype; the colours are not premultiplied
    notes: tuple[str, ...] = ()


def readable(directory: Directory) -> bool:
    """Whether `read` supports the layout; Pillow reads the rest (palettes, YCbCr, JPEG, bilevel), up to 8 bits."""
    bits, formats = set(directory.numbers(tiff.BITS, (1,))), set(directory.numbers(tiff.FORMAT, (1,)))
    return (
        directory.number(tiff.PHOTOMETRIC, -1) in _COLORS
        and directory.number(tiff.COMPRESSION, 1) in _BYTE_CODECS
        and len(bits) == 1
        and bits <= {8, 16, 32, 64}
        and len(formats) == 1
        and formats <= set(_FORMATS)
    )


def read(data: Buffer, directory: Directory) -> Samples:
    """Decode the values of a page that is `readable`. Raises ImageError and ValueError."""
    photometric = directory.number(tiff.PHOTOMETRIC)
    colors, samples = _COLORS[photometric], directory.number(tiff.SAMPLES, 1)
    if samples < colors:
        raise ImageError(f"damaged: {samples} channels where its colours need {colors}")
    values = _planes(data, directory, samples)
    values, notes = _full_range(values, directory)
    extra = directory.numbers(tiff.EXTRA)
    # An undeclared extra channel is meant as alpha; one that is declared unspecified is not.
    kind = (extra[0] if extra else 2) if samples > colors else None
    picture = values[..., :colors]
    white = np.iinfo(picture.dtype).max
    if photometric == tiff.WHITE_IS_ZERO:
        picture = white - picture
    alpha = values[..., colors].copy() if kind in (1, 2) else None
    if kind == 1 and alpha is not None:
        picture = _unmultiplied(picture, alpha)
    left_out = samples - colors - (alpha is not None)
    if left_out:
        notes += (f"{left_out} channels beside colour and alpha are left out",)
    return Samples(np.ascontiguousarray(picture), alpha, notes)


def _unmultiplied(picture: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    white = np.iinfo(picture.dtype).max
    over = np.maximum(alpha, 1).astype(np.uint32)[..., None]
    whole = (picture.astype(np.uint32) * np.uint32(white) + over // 2) // over
    return np.minimum(whole, white).astype(picture.dtype)


def _full_range(values: NDArray[Any], directory: Directory) -> tuple[NDArray[Any], tuple[str, ...]]:
    """8- and 16-bit values unchanged, others as 16-bit, and notes. Raises ImageError where their range is unknown."""
    if values.dtype.kind == "u":
        bits = values.dtype.itemsize * 8
        if bits <= 16:
            return values, ()
        return (values >> np.asarray(bits - 16, values.dtype)).astype(np.uint16), (f"{bits} bits become 16",)
    if values.dtype.kind == "i":
        raise ImageError("its values are signed, and it does not say which is black: convert it to 8 or 16 bits")
    low, high = (directory.numbers(tag)[:1] for tag in (tiff.LEAST_SAMPLE, tiff.MOST_SAMPLE))
    return from_floats(values, float(low[0]) if low else 0.0, float(high[0]) if high else 1.0)


def from_floats(values: NDArray[Any], low: float = 0.0, high: float = 1.0) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Scale values from `low` (black) to `high` (white) to uint16. Raises ImageError for others and non-finite ones."""
    if not np.isfinite(values).all():
        raise ImageError("some of its values are infinite or not a number: convert it to 16 bits first")
    # Writers often declare the range they found; an image that does not reach white must not be stretched to it.
    low, high = min(low, 0.0) if low >= 0 else low, max(high, 1.0)
    least, most = float(values.min()), float(values.max())
    slack = 0.001 * (high - low)
    if least < low - slack or most > high + slack:
        span = f"{least:g} to {most:g}, but black and white are {low:g} and {high:g}"
        raise ImageError(f"its values range from {span}: map its tones to 16 bits first")
    scaled = np.clip((values.astype(np.float64) - low) * (65535 / (high - low)), 0, 65535)
    return np.rint(scaled).astype(np.uint16), ("floating point becomes 16 bits",)


def _planes(data: Buffer, directory: Directory, samples: int) -> NDArray[Any]:
    """[H, W, samples] as stored, in native byte order."""
    planar = directory.number(tiff.PLANAR, 1) == 2 and samples > 1
    if not planar:
        return _plane(data, directory, samples, 0, 1)
    return np.concatenate([_plane(data, directory, 1, i, samples) for i in range(samples)], axis=2)


def _plane(data: Buffer, directory: Directory, samples: int, index: int, planes: int) -> NDArray[Any]:
    width, height = directory.number(tiff.WIDTH), directory.number(tiff.HEIGHT)
    kind = _FORMATS[directory.number(tiff.FORMAT, 1)]
    stored = np.dtype(f"{directory.order}{kind}{directory.number(tiff.BITS, 1) // 8}")
    tiled = tiff.TILES in directory.entries
    across = directory.number(tiff.TILE_WIDTH) if tiled else width
    if across < 1:
        raise ImageError("damaged: its tiles have no width")
    blocks = -(-width // across)
    pixel = samples * stored.itemsize
    found = _decompressed(data, directory, (blocks * across * pixel, height), across * pixel, index, planes)
    rows = found.reshape(height, blocks, across * pixel)
    predictor = directory.number(tiff.PREDICTOR, 1)
    if predictor == tiff.FLOATING and kind == "f":
        values = _unpredicted_floats(rows, samples, stored.itemsize)
    else:
        values = rows.view(stored).astype(stored.newbyteorder("="))
        if predictor == tiff.HORIZONTAL and kind != "f":
            lanes = values.reshape(height, blocks, across, samples)
            values = np.add.accumulate(lanes, axis=2, dtype=values.dtype)
        elif predictor != 1:
            raise ImageError(f"it uses predictor {predictor}, which is not supported: save it without")
    return values.reshape(height, blocks * across, samples)[:, :width]


def _unpredicted_floats(rows: NDArray[np.uint8], samples: int, size: int) -> NDArray[Any]:
    """Undo Adobe's floating-point predictor: byte planes, highest first, of differences within each channel."""
    height, blocks, length = rows.shape
    lanes = rows.reshape(height, blocks, length // samples, samples)
    planes = np.add.accumulate(lanes, axis=2, dtype=np.uint8).reshape(height, blocks, size, length // size)
    return np.ascontiguousarray(planes.swapaxes(2, 3)).view(f">f{size}").astype(f"=f{size}")


def _decompressed(
    data: Buffer, directory: Directory, size: tuple[int, int], block: int, index: int, planes: int
) -> NDArray[np.uint8]:
    """A plane's bytes [H, W], decompressed by libtiff as a gray image of `size` (W, H) in blocks `block` bytes wide."""
    places, lengths = blocks_of(directory)
    each = len(places) // planes
    mine = slice(index * each, (index + 1) * each)
    shown = Directory("<")
    for tag, value in (
        (tiff.WIDTH, size[0]),
        (tiff.HEIGHT, size[1]),
        (tiff.BITS, 8),
        (tiff.PHOTOMETRIC, 1),
        (tiff.SAMPLES, 1),
    ):
        shown.put(tag, LONG, value)
    shown.put(tiff.COMPRESSION, SHORT, directory.number(tiff.COMPRESSION, tiff.UNCOMPRESSED))
    shown.put(tiff.FILL_ORDER, SHORT, directory.number(tiff.FILL_ORDER, 1))
    if tiff.TILES in directory.entries:
        shown.put(tiff.TILE_WIDTH, LONG, block)
        shown.put(tiff.TILE_HEIGHT, LONG, directory.number(tiff.TILE_HEIGHT))
        shown.put(tiff.TILES, LONG)
    else:
        shown.put(tiff.ROWS, LONG, min(directory.number(tiff.ROWS, size[1]), size[1]))
    with quiet:
        image = TiffImagePlugin.TiffImageFile(with_blocks(data, shown, places[mine], lengths[mine]))
        pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.shape != size[::-1]:
        raise ImageError("damaged: its pixels are not where it says")
    return pixels
