"""Remove noise, as at high ISO, the traces of compression and the blocks of repeated pixels from the faces of a photo.

Restorers take noise for texture, and draw it; in small faces, compression looks like features. Both are removed in the
photo's own pixels, as enlarging would make them coarse, by a network, which is applied only where there is damage: the
noise is what it removes from a face and around it alike, slight if there is none; compression is measured by its
quantization. Repeated pixels are enlarged smoothly instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bit_depth import in_shares
from ..types import Crop, Pixels, Plane
from .align import Matrix, compose, extract, footprint, magnification, resizing, shift, warp_into
from .area import Area
from .compression import quantization
from .light import coloring
from .noise import artifacts, coarse_noise, energies_around, energies_within, may_be_noisy, noise_share, ramp
from .paste import mask_over
from .repeated import smoothly_enlarged

_COARSE = (0.45, 0.75)  # quantization: up to the first (quality 78) nobody sees it, from the second (62) it is removed
_SPACING = 4  # pixels between those of which a face's colour is the mean
_SEEN = 256  # pixels, sides of the area around a face, at least, in which compression is measured


@dataclass(frozen=True)
class CleanFace:
    """The part of a photo around a face, without its damage."""

    area: Area
    pixels: Pixels  # [h, w, 3] of that area, of the photo's dtype
    removed: str  # "blocks", or of "noise" and "compression" the worse
    share: float  # of it that is removed, 0 to 1: less where it is slight

    def crop(self, to_crop: Matrix, size: int) -> Crop:
        """The face's crop [size, size, 3] in 0 to 1, by the map from the photo's pixels to it."""
        return extract(self.pixels, compose(to_crop, shift(self.area.left, self.area.top)), size)


def clean_face(photo: Pixels, mask: Plane, to_photo: Matrix, film: bool = False) -> CleanFace | None:
    """A face of a photo [H, W, 3] without blocks, noise (measured within its crop's mask [S, S]) and compression.

    None where there is nothing to remove. A film's compression stays: most frames are compressed as changes of others.
    Raises ModelError when the network cannot be loaded.
    """
    margin = int(np.ceil(4 * max(1.0, magnification(to_photo))))  # read when the crop is made
    area = footprint(to_photo, len(mask), photo.shape[1], photo.shape[0], margin)
    if (smooth := smoothly_enlarged(photo[area.pixels])) is not None:
        return CleanFace(area, smooth, "blocks", 1.0)
    soft = ((tile, mask_over(tile, mask, to_photo)) for tile in area.tiles())
    tiles = [(tile, here > 0.5, here == 0) for tile, here in soft]
    compressed = 0.0 if film else ramp(quantization(photo[_around(area, photo).pixels]), _COARSE)
    side, white = len(mask) * magnification(to_photo), np.iinfo(photo.dtype).max
    pixels, noisy = photo[area.pixels], 0.0
    faces = [(tile, inside) for tile, inside, _ in tiles]
    apart = coloring(_mean_color(photo, faces) / np.float32(white))
    if compressed or may_be_noisy(photo, faces):
        pixels = pixels.copy()
        within, around = [], []
        for tile, inside, outside in tiles:
            found = artifacts(photo, tile, apart)
            within.append(energies_within(found, inside))
            around.append(energies_around(found, in_shares(photo[tile.pixels]), outside))
            here = pixels[tile.relative_to(area).pixels]
            here[:] = np.rint((here - white * found).clip(0, white))
        noisy = noise_share(within, side, around)
        if (share := max(noisy, compressed)) < 1:
            for tile, *_ in tiles:
                here, before = pixels[tile.relative_to(area).pixels], photo[tile.pixels]
                here[:] = np.rint(before + np.float32(share) * (here.astype(np.float32) - before))
    place = compose(shift(-area.left, -area.top), to_photo)
    if (coarse := _coarse_noise(pixels, mask, place, side, apart)) is not None:
        pixels, noisy = _without(pixels, coarse), 1.0
    if not (noisy or compressed):
        return None
    return CleanFace(area, pixels, "compression" if compressed > noisy else "noise", max(noisy, compressed))


def _mean_color(photo: Pixels, tiles: Iterable[tuple[Area, NDArray[np.bool_]]]) -> NDArray[np.float32]:
    """The mean colour [3] within a face, from its tiles, each with what is inside it; black for no pixels."""
    some = np.s_[::_SPACING, ::_SPACING]
    pixels = np.concatenate([photo[tile.pixels][some][inside[some]] for tile, inside in tiles])
    mean: NDArray[np.float32] = (pixels.sum(0, dtype=np.float64) / max(1, len(pixels))).astype(np.float32)
    return mean


def _coarse_noise(pixels: Pixels, mask: Plane, place: Matrix, side: float, apart: float) -> NDArray[np.float32] | None:
    """The noise that the part of a photo around a face shows at half its size, at that size; None if there is none."""
    (height, width) = pixels.shape[:2]
    half = (max(1, width // 2), max(1, height // 2))
    small = mask_over(Area(0, 0, *half), mask, compose(resizing(width, height, *half), place))
    return coarse_noise(in_shares(cv2.resize(pixels, half, interpolation=cv2.INTER_AREA)), small, side / 2, apart)


def _without(pixels: Pixels, noise: NDArray[np.float32]) -> Pixels:
    """Pixels without noise that is given at a smaller size."""
    (height, width), white = pixels.shape[:2], np.iinfo(pixels.dtype).max
    enlarge, result = resizing(noise.shape[1], noise.shape[0], width, height), pixels.copy()
    for tile in Area(0, 0, width, height).tiles():
        here = result[tile.pixels]
        here[:] = np.rint((here - white * warp_into(tile, noise, enlarge, cv2.BORDER_REPLICATE)).clip(0, white))
    return result


def remove_artifacts(photo: Pixels, faces: Iterable[tuple[CleanFace, Plane, Matrix]]) -> Pixels:
    """A photo with clean faces pasted; the same array if there are none.

    Each comes with the share of its change to apply, [S, S] over its crop, and the map from its crop to the photo.
    Pixels with share 0 keep their exact values.
    """
    result = photo
    for face, share, to_photo in faces:
        result = photo.copy() if result is photo else result
        for tile in face.area.tiles():
            here, clean = result[tile.pixels], face.pixels[tile.relative_to(face.area).pixels]
            soft, before = mask_over(tile, share, to_photo)[..., None], here.astype(np.float32)
            here[:] = np.rint(before + soft * (clean - before))
    return result


def _around(area: Area, photo: Pixels) -> Area:
    margin = max(0, (_SEEN - min(area.size)) // 2)
    return area.expanded(margin).intersection(Area(0, 0, photo.shape[1], photo.shape[0]))
