"""A page of a TIFF as a photo: by our own reader where it can, else by Pillow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from ...bit_depth import to_8_bits
from ...errors import ImageError
from . import exif, metadata, tiff, tiff_read
from .color import as_rgb, fitting_profile
from .decoded import as_photo
from .ifd import Buffer, Directory
from .orientation import turned
from .photo import Photo
from .tiff_blocks import single_page


def read_page(data: Buffer, directory: Directory) -> Photo:
    """Decode the page of a TIFF, `data`, that a directory describes, and turn it upright.

    Raises ImageError, and whatever Pillow raises.
    """
    said = metadata.of_tiff(directory)
    packet = directory.content(tiff.XMP)
    turn = exif.orientation(directory) if exif.ORIENTATION in directory.entries else metadata.turn_of_xmp(packet)
    if tiff_read.readable(directory):
        found = _of_samples(tiff_read.read(data, directory), directory.content(tiff.ICC))
    else:
        # Pillow cannot hold such colours, and would silently clip them.
        if max(directory.numbers(tiff.BITS, (1,))) > 8 or directory.number(tiff.FORMAT, 1) not in (1, 4):
            raise ImageError(f"{tiff.describe(directory)}: not supported, convert it to 8- or 16-bit RGB")
        # Pillow turns some of these upright and others not, so the tag and XMP are hidden from it.
        with Image.open(single_page(data, directory), formats=["TIFF"]) as image:
            found = as_photo(image)
    return replace(turned(found, turn), exif=exif.from_tiff(directory), metadata=said)


def _of_samples(samples: tiff_read.Samples, icc: bytes | None) -> Photo:
    values, channels = samples.values, samples.values.shape[2]
    if channels == 4:
        image, icc, notes = as_rgb(Image.fromarray(to_8_bits(values), "CMYK"), icc)
        alpha = None if samples.alpha is None else to_8_bits(samples.alpha)
        notes += ("16 bits per channel become 8",) if values.dtype == np.uint16 else ()
        return Photo(np.asarray(image), alpha, False, icc, notes=(*samples.notes, *notes))
    icc, notes = fitting_profile(icc, channels == 1)
    pixels = np.repeat(values, 3, axis=2) if channels == 1 else values
    return Photo(pixels, samples.alpha, channels == 1, icc, notes=(*samples.notes, *notes))
