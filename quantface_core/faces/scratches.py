"""Repair the scratches, cracks, creases and dust of old prints in a photo.

A network finds them and draws what was there; only pixels that it is sure of are redrawn. It sees large photos smaller,
where damage is some pixels wide and what is finer is texture, such as hair; and again at halves of that size, where the
widest cracks are narrow.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..bit_depth import check_pixels, in_shares
from ..types import Pixels, Plane, Progress, Repair, silent
from .area import Area
from .color import luma
from .networks import exactly
from .scratch_network import STRIDE, ScratchNetwork, bundled_scratch_network
from .toning import toning_among

_LARGEST, _SMALLEST = 1536, 256  # pixels, the longer side of what the network sees, and of its halves
_CONTEXT = 144  # pixels around a tile that the network sees: as far as it looks
_SURE, _LIKELY = 0.95, 0.4  # probability that a damaged place must reach somewhere, and everywhere
_MANY = 1 << 17  # intact pixels, about, whose tones are fitted
_EDGE = 0.8  # pixels: how softly repairs end


def repair_scratches(photo: Pixels, progress: Progress | None = None, network: ScratchNetwork | None = None) -> Repair:
    """Repair an RGB photo [H, W, 3], uint8 or uint16, by the bundled network by default.

    Always computed on the CPU, so that the result does not depend on the device. Progress counts tiles. Raises
    ImageError, ModelError.
    """
    check_pixels(photo)
    image = in_shares(photo)
    network, sizes = network or bundled_scratch_network(), _sizes(photo.shape[1], photo.shape[0])
    mask = np.zeros(photo.shape[:2], np.float32)
    for number, size in enumerate(sizes):
        step = partial(_share_of, progress or silent, number, len(sizes))
        drawn, here = (_resized(x, photo.shape[1::-1]) for x in _redrawn(_resized(image, size), network, step))
        here = here.clip(0, 1)
        image = image + here[..., None] * (drawn - image)
        mask = np.maximum(mask, here)
    return Repair(np.rint(np.iinfo(photo.dtype).max * image.clip(0, 1)).astype(photo.dtype), mask)


def _sizes(width: int, height: int) -> list[tuple[int, int]]:
    """The sizes (width, height) at which a photo is looked at: the largest first, for fine scratches."""
    longer = max(width, height)
    sides = [min(longer, _LARGEST)]
    while sides[-1] >= 2 * _SMALLEST:
        sides.append(sides[-1] // 2)
    return [(max(1, round(width * side / longer)), max(1, round(height * side / longer))) for side in sides]


def _resized(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    if image.shape[1::-1] == size:
        return image
    smooth = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=smooth), np.float32)


def _share_of(progress: Progress, number: int, of: int, done: int, total: int) -> None:
    """Report a step of one of several stages, as so many steps of all."""
    progress(number * total + done, of * total)


def _redrawn(
    image: NDArray[np.float32], network: ScratchNetwork, progress: Progress
) -> tuple[NDArray[np.float32], Plane]:
    """What an image [H, W, 3] in 0 to 1 shows without damage, of use where the mask [H, W] is not 0."""
    drawn, found = _look(image, network, progress)
    mask = _certain(found)
    return _in_tones_of(image[mask == 0], drawn), mask


def _in_tones_of(intact: NDArray[np.float32], drawn: NDArray[np.float32]) -> NDArray[np.float32]:
    """What was drawn [H, W, 3] in the tones of a photo, by its intact pixels [N, 3], if it is black and white or toned.

    Cracks show the paper's colour, some of which would stay.
    """
    if (intact == intact[:, :1]).all():
        return drawn.mean(2, keepdims=True).repeat(3, 2)
    toning = toning_among(intact[:: 1 + len(intact) // _MANY])
    return drawn if toning is None else toning.colors(luma(drawn)).clip(0, 1)


def _look(
    image: NDArray[np.float32], network: ScratchNetwork, progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An image [H, W, 3] in 0 to 1 -> (what the network draws [H, W, 3], probability of damage [H, W])."""
    drawn, found = np.empty_like(image), np.empty(image.shape[:2], np.float32)
    whole = Area(0, 0, image.shape[1], image.shape[0])
    tiles = list(whole.tiles())
    for number, tile in enumerate(tiles):
        progress(number, len(tiles))
        wide = tile.expanded(_CONTEXT)
        even = wide._replace(left=wide.left // STRIDE * STRIDE, top=wide.top // STRIDE * STRIDE)  # alike in every tile
        seen = even.intersection(whole)
        x = torch.from_numpy(np.ascontiguousarray(image[seen.pixels])).permute(2, 0, 1)[None]
        wide_by, tall_by = (-n % STRIDE for n in seen.size)
        with exactly():
            picture, logits = network(F.pad(x, (0, wide_by, 0, tall_by), mode="replicate"))
        here = tile.relative_to(seen).pixels
        drawn[tile.pixels] = picture[0].permute(1, 2, 0).numpy()[here].clip(0, 1)
        found[tile.pixels] = logits[0, 0].sigmoid().numpy()[here]
    progress(len(tiles), len(tiles))
    return drawn, found


def _certain(found: NDArray[np.float32]) -> Plane:
    """Where to redraw [H, W], 0 to 1: all of each place that is likely damaged, where some of it surely is."""
    count, places = cv2.connectedComponents((found > _LIKELY).astype(np.uint8), connectivity=8)
    sure = np.zeros(count, bool)
    sure[places[found > _SURE]] = True
    sure[0] = False
    chosen = cv2.dilate(sure[places].astype(np.uint8), np.ones((3, 3), np.uint8))
    soft: Plane = cv2.GaussianBlur(chosen.astype(np.float32), (0, 0), _EDGE)
    return np.maximum(soft, chosen) if _EDGE == 0 else soft
