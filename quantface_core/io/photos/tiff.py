"""TIFF's tags, and what they say about a page beside its pixels."""

from __future__ import annotations

from .ifd import Directory

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, DESCRIPTION = 254, 256, 257, 258, 259, 262, 266, 270
STRIPS, SAMPLES, ROWS, STRIP_BYTES, X_DPI, Y_DPI, PLANAR, DPI_UNIT = 273, 277, 278, 279, 282, 283, 284, 296
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SUB_IFDS, EXTRA, FORMAT = 317, 322, 323, 324, 325, 330, 338, 339
LEAST_SAMPLE, MOST_SAMPLE, XMP, IPTC, ICC, DNG = 340, 341, 700, 33723, 34675, 50706

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
UNCOMPRESSED, OLD_JPEG, DEFLATE = 1, 6, 8  # compressions
HORIZONTAL, FLOATING = 2, 3  # predictors


def is_raw(directory: Directory) -> bool:
    """Whether a first directory is that of a camera raw file, whose readable image is only a preview."""
    reduced = directory.number(SUBFILE) & 1
    return DNG in directory.entries or bool(reduced and SUB_IFDS in directory.entries)


def pages(found: list[Directory]) -> list[Directory]:
    """The directories that are pages: no transparency masks, and no reduced copies unless there is nothing else."""
    pictures = [d for d in found if WIDTH in d.entries and not d.number(SUBFILE) & 0b100]
    return [d for d in pictures if not d.number(SUBFILE) & 1] or pictures


def describe(directory: Directory) -> str:
    """The layout in words, for error messages."""
    bits = "/".join(str(b) for b in directory.numbers(BITS, (1,))[:5])
    return f"TIFF of {bits} bits, photometric {directory.number(PHOTOMETRIC, -1)}, " + (
        f"compression {directory.number(COMPRESSION, 1)}, sample format {directory.number(FORMAT, 1)}"
    )


def resolution(directory: Directory) -> tuple[float, float] | None:
    """Dots per inch, horizontal and vertical; None where only their ratio is stated."""
    x, y = directory.numbers(X_DPI), directory.numbers(Y_DPI)
    inches = {2: 1.0, 3: 2.54}.get(directory.number(DPI_UNIT, 2))
    if inches is None or len(x) < 2 or len(y) < 2 or not x[1] or not y[1] or not x[0] or not y[0]:
        return None
    return x[0] / x[1] * inches, y[0] / y[1] * inches
