"""Convert between the host's images and the library's pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image


def to_pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """An image's colours [H, W, 3], without its transparency."""
    return np.array(_with_bands(picture).convert("RGB"))


def with_pixels(picture: Image.Image, pixels: NDArray[np.uint8]) -> Image.Image:
    """An image with other colours [H, W, 3] of the same size, its transparency and text unchanged."""
    from PIL import Image

    shown, image = _with_bands(picture), Image.fromarray(pixels)
    if "A" in shown.getbands():
        image.putalpha(shown.getchannel("A"))
    image.info = shown.info
    return image


def _with_bands(picture: Image.Image) -> Image.Image:
    """Transparency may also be a palette's, or one colour's."""
    return picture.convert("RGBA") if "transparency" in picture.info else picture
