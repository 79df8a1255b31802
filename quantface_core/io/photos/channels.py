"""A photo's channels as formats hold them: 8-bit, gray or RGB, with or without alpha."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...bit_depth import to_8_bits
from .color import space, to_srgb
from .photo import Photo, Warnings


def stack_alpha(photo: Photo) -> NDArray[Any]:
    """Gray or RGB, followed by alpha if there is any: [H, W, 1 to 4], the photo's dtype."""
    colors = photo.pixels[..., :1] if photo.gray else photo.pixels
    return colors if photo.alpha is None else np.concatenate([colors, photo.alpha[..., None]], axis=2)


def to_pil(photo: Photo) -> Image.Image:
    """An 8-bit photo as a Pillow image: L, LA, RGB or RGBA."""
    channels = stack_alpha(photo)
    return Image.fromarray(np.ascontiguousarray(channels if channels.shape[2] > 1 else channels[..., 0]))


def to_uint8(photo: Photo) -> tuple[Photo, Warnings]:
    """Pixels and alpha as uint8, and a warning where they had 16 bits."""
    if photo.pixels.dtype == np.uint8:
        return photo, ()
    alpha = None if photo.alpha is None else to_8_bits(photo.alpha)
    return replace(photo, pixels=to_8_bits(photo.pixels), alpha=alpha), ("16 bits per channel become 8",)


def to_uniform_uint8(photos: Sequence[Photo]) -> tuple[list[Photo], Warnings]:
    """Frames as uint8 with the same channels: gray only if all are, with alpha if any has it (opaque where missing)."""
    pairs = [to_uint8(photo) for photo in photos]
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


def to_rgb(photo: Photo) -> tuple[Photo, Warnings]:
    """Gray as RGB; a gray profile, which cannot describe RGB, is applied, or left out where it cannot be applied."""
    if not photo.gray or not photo.icc:
        return replace(photo, gray=False), ()
    image = None
    if space(photo.icc) == "gray":
        image = to_srgb(Image.fromarray(np.ascontiguousarray(photo.pixels[..., 0])), photo.icc)
    if image is None:
        warning = "the gray colour profile is left out: it cannot be applied, and WebP has no gray for it"
        return replace(photo, gray=False, icc=None), (warning,)
    converted = replace(photo, pixels=np.asarray(image), gray=False, icc=None)
    return converted, ("gray becomes sRGB: WebP has no gray for its profile",)
