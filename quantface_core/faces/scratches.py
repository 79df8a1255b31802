"""Repair the scratches, cracks, creases and dust of old prints in a photo.

A network segments and inpaints them; only pixels that it is sure of are inpainted. It sees large photos smaller, where
damage is some pixels wide and what is finer is texture, such as hair; and again at halves of that size, where the
widest cracks are narrow.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bit_depth import check_pixels, in_shares
from ..types import Crop, Pixels, Plane, Progress, Repair, silent
from .align import resizing, warp_into
from .area import Area
from .color import luma
from .networks import as_input, exactly
from .scratch_network import STRIDE, ScratchNetwork, bundled_scratch_network
from .toning import GRAY, toning_among

_LARGEST, _SMALLEST = 1536, 256  # pixels, the longer side of what the network sees, and of its halves
_CONTEXT = 144  # pixels around a tile that the network sees: as far as it looks
_SURE, _LIKELY = 0.95, 0.4  # probability that a damaged place must reach somewhere, and everywhere
_MANY = 1 << 17  # intact pixels, about, whose tones are fitted
_EDGE = 0.8  # pixels, std of the blur that softens the mask


class _Inpainted(NamedTuple):
    image: Crop  # [h, w, 3] in 0 to 1, of use where the mask is not 0
    mask: Plane  # [h, w] in 0 to 1


def repair_scratches(photo: Pixels, progress: Progress | None = None, network: ScratchNetwork | None = None) -> Repair:
    """Repair an RGB photo [H, W, 3], uint8 or uint16, by the bundled network by default.

    Always computed on the CPU, so that the result does not depend on the device. Progress counts tiles. Raises
    ImageError, ModelError.
    """
    check_pixels(photo)
    sizes, progress, network = _sizes(photo), progress or silent, network or bundled_scratch_network()
    seen = in_shares(_resized(photo, sizes[0]))
    result = _Inpainted(seen, np.zeros(seen.shape[:2], np.float32))
    for number, size in enumerate(sizes):

        def step(done: int, total: int, before: int = number) -> None:
            progress(before * total + done, len(sizes) * total)

        so_far = seen + result.mask[..., None] * (result.image - seen)
        image, mask = (_resized(x, sizes[0]).clip(0, 1) for x in _at_one_size(_resized(so_far, size), network, step))
        image = np.where(mask[..., None] > result.mask[..., None], image, result.image)
        result = _Inpainted(image, np.maximum(result.mask, mask))
    return _applied(photo, result)


def _sizes(photo: Pixels) -> list[tuple[int, int]]:
    """The sizes (width, height) at which a photo is looked at: the largest first, for fine scratches."""
    height, width = photo.shape[:2]
    longer = max(width, height)
    sides = [min(longer, _LARGEST)]
    while sides[-1] >= 2 * _SMALLEST:
        sides.append(sides[-1] // 2)
    return [(max(1, round(width * side / longer)), max(1, round(height * side / longer))) for side in sides]


def _resized(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    if image.shape[1::-1] == size:
        return image
    smooth = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(image, size, interpolation=smooth)


def _applied(photo: Pixels, inpainted: _Inpainted) -> Repair:
    """A photo with what was inpainted at its size or a smaller one, in tiles."""
    (height, width), white = photo.shape[:2], np.float32(np.iinfo(photo.dtype).max)
    result, mask = photo.copy(), np.zeros(photo.shape[:2], np.float32)
    enlarge = resizing(inpainted.mask.shape[1], inpainted.mask.shape[0], width, height)
    for tile in Area(0, 0, width, height).tiles():
        soft = warp_into(tile, inpainted.mask, enlarge, cv2.BORDER_REPLICATE).clip(0, 1)
        if soft.any():
            there = warp_into(tile, inpainted.image, enlarge, cv2.BORDER_REPLICATE).clip(0, 1)
            before = photo[tile.pixels].astype(np.float32)
            result[tile.pixels] = np.rint(before + soft[..., None] * (white * there - before))
            mask[tile.pixels] = soft
    return Repair(result, mask)


def _at_one_size(image: Crop, network: ScratchNetwork, progress: Progress) -> _Inpainted:
    """An image [H, W, 3] in 0 to 1 without damage."""
    inpainted, probability = _predicted(image, network, progress)
    mask = _certain(probability)
    return _Inpainted(_in_tones_of(image[mask == 0], inpainted), mask)


def _in_tones_of(intact: NDArray[np.float32], inpainted: Crop) -> Crop:
    """An inpainted image in a photo's tones, by the intact pixels [N, 3], if that is black and white or toned.

    Cracks show the paper's colour, some of which would stay.
    """
    is_gray = (intact == intact[:, :1]).all()
    toning = GRAY if is_gray else toning_among(intact[:: 1 + len(intact) // _MANY])
    return inpainted if toning is None else toning.colors(luma(inpainted)).clip(0, 1)


def _predicted(image: Crop, network: ScratchNetwork, progress: Progress) -> tuple[Crop, Plane]:
    """An image [H, W, 3] in 0 to 1 -> (the same inpainted, the probability of damage [H, W])."""
    inpainted, probability = np.empty_like(image), np.empty(image.shape[:2], np.float32)
    whole = Area(0, 0, image.shape[1], image.shape[0])
    tiles = list(whole.tiles())
    for number, tile in enumerate(tiles):
        progress(number, len(tiles))
        seen = tile.with_context(_CONTEXT, STRIDE, whole)
        with exactly():
            clean, logits = network(as_input(image[seen.pixels], STRIDE))
        here = tile.relative_to(seen).pixels
        inpainted[tile.pixels] = clean[0].permute(1, 2, 0).numpy()[here].clip(0, 1)
        probability[tile.pixels] = logits[0, 0].sigmoid().numpy()[here]
    progress(len(tiles), len(tiles))
    return inpainted, probability


def _certain(probability: Plane) -> Plane:
    """The mask [H, W] in 0 to 1, by hysteresis: connected likely places in which some pixel is sure, softened."""
    count, places = cv2.connectedComponents((probability > _LIKELY).astype(np.uint8), connectivity=8)
    sure = np.zeros(count, bool)
    sure[places[probability > _SURE]] = True
    sure[0] = False
    chosen = cv2.dilate(sure[places].astype(np.float32), np.ones((3, 3), np.uint8))
    soft: Plane = cv2.GaussianBlur(chosen, (0, 0), _EDGE)
    return soft
