"""Noise and other artefacts in an image of a face: what the cleaning network removes, and how much noise that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bit_depth import in_shares
from ..types import Plane
from .area import Area
from .clean_network import STRIDE, without_artifacts

_SMALL = 96  # pixels, side of a crop: in smaller ones features look like noise, in inverse proportion
_SMALLEST = 64  # pixels, side of a crop in which coarse noise is looked for
_GRAIN = (2.6 / 255, 4 / 255)  # noise, as std: up to the first it is grain and kept, from the second removed
_LEAST = 2 / 255  # fine detail, as std, below which no face has such noise
_SIGMA, _WINDOW = 1.2, 5  # in pixels: detail is finer than this blur, and its energy a mean over this window
_SHOWN = (0.12, 0.95)  # brightness between which noise is neither crushed nor clipped
_ENOUGH = (1 / 8, 1 / 4)  # so many places around a face, relative to those within it, tell its noise from its texture
_UNEVEN = 1.25  # noise within a face over that around it, at most: it varies with brightness
_MANY = 1 << 17  # energies of a tile, about, of which the level is taken
_FLATTEST = 10  # percentile of a face's energy of detail: noise is everywhere
_CONTEXT = 64  # pixels around a tile that the network sees
_LOCAL, _DRIFT = 49, 6 / 255  # pixels, over which what is removed averages to nearly 0: brightness is no artefact


def may_be_noisy(image: NDArray[Any], tiles: Iterable[tuple[Area, NDArray[np.bool_]]]) -> bool:
    """Whether an image [H, W, 3], uint8, uint16 or in 0 to 1, has enough fine detail within a face to look closer.

    The face's tiles each come with what is inside it, [h, w].
    """
    energies = []
    for tile, inside in tiles:
        part = in_shares(image[tile.pixels])
        energies.append(energies_within(part - cv2.GaussianBlur(part, (0, 0), _SIGMA), inside))
    return _level(energies) >= _LEAST


def noise_share(
    energies: Sequence[NDArray[np.float32]], side: float, around: Sequence[NDArray[np.float32]] = ()
) -> float:
    """The share of what the network removes to remove, 0 to 1, from the energies of that within a face.

    `side` is that of the face's crop, in pixels of the image; `around` are the energies around the face. Noise is all
    over a photo: where there is less of it around the face, the rest is the face's texture, such as sharpened pores.
    """
    level = _level(energies) / max(1.0, _SMALL / side)
    told = ramp(sum(map(len, around)) / max(1, sum(map(len, energies))), _ENOUGH)
    level -= told * max(0.0, level - _UNEVEN * _level(around))
    return ramp(level, _GRAIN)


def artifacts(image: NDArray[Any], area: Area, apart: float = 0.0) -> NDArray[np.float32]:
    """What the network removes from an area of an image [H, W, 3], as for `may_be_noisy`: [h, w, 3] in 0 to 1.

    `apart` is the share, 0 to 1, that is found in each channel on its own, as in a black and white photo: in coloured
    light, which the network does not know, it takes the strongest channel's detail for noise.
    """
    seen = area.with_context(_CONTEXT, STRIDE, Area(0, 0, image.shape[1], image.shape[0]))
    part = in_shares(image[seen.pixels])
    if (part == part[..., :1]).all():  # such a photo stays one
        found = _of_channel(part[..., :1]).repeat(3, 2)
    else:
        found = np.zeros_like(part) if apart == 1 else np.float32(1 - apart) * (part - without_artifacts(part))
        if apart:
            found += np.float32(apart) * np.dstack([_of_channel(part[..., [channel]]) for channel in range(3)])
    drift = cv2.blur(found, (_LOCAL, _LOCAL))
    found -= drift - drift.clip(-_DRIFT, _DRIFT)
    return found[area.relative_to(seen).pixels]


def _of_channel(channel: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network removes from a channel [h, w, 1], seen as a black and white photo."""
    gray = channel.repeat(3, 2)
    found: NDArray[np.float32] = (gray - without_artifacts(gray)).mean(2, keepdims=True)
    return found


def coarse_noise(
    image: NDArray[np.float32], mask: Plane, side: float, apart: float = 0.0
) -> NDArray[np.float32] | None:
    """The noise of a face in an image [H, W, 3] in 0 to 1, of any grain: the network sees it at this size, half, ...

    `mask` [H, W] is 0 to 1 within the face, `side` as for `noise_share`, `apart` for `artifacts`. None if there is
    none.
    """
    if side < _SMALLEST:
        return None
    noise, (height, width) = None, mask.shape
    tiles = [(tile, mask[tile.pixels] > 0.5) for tile in Area(0, 0, width, height).tiles()]
    if may_be_noisy(image, tiles):
        found, within, around = np.empty_like(image), [], []
        for tile, inside in tiles:
            here = found[tile.pixels] = artifacts(image, tile, apart)
            within.append(energies_within(here, inside))
            around.append(energies_around(here, image[tile.pixels], mask[tile.pixels] == 0))
        if share := noise_share(within, side, around):
            noise = np.float32(share) * found
    rest, half = image if noise is None else image - noise, (max(1, width // 2), max(1, height // 2))
    smaller, small = (cv2.resize(x, half, interpolation=cv2.INTER_AREA) for x in (rest, mask))
    coarser = coarse_noise(smaller, small, side / 2, apart)
    if coarser is None:
        return noise
    enlarged: NDArray[np.float32] = cv2.resize(coarser, (width, height), interpolation=cv2.INTER_CUBIC)
    return enlarged if noise is None else noise + enlarged


def energies_within(detail: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Local mean squares of detail [h, w, 3] at places `inside` [h, w], of a large image evenly chosen ones, [n]."""
    local = cv2.blur(np.square(detail).mean(2), (_WINDOW, _WINDOW))[inside]
    return local[:: 1 + local.size // _MANY]


def energies_around(
    detail: NDArray[np.float32], image: NDArray[np.float32], outside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """As `energies_within`, at the places outside a face where the image [h, w, 3] shows noise, if it has any.

    It is hidden where the image is about black or white, or drawn in one colour.
    """
    brightness, window = image.mean(2), np.ones((_WINDOW, _WINDOW), np.uint8)
    varies = cv2.dilate(brightness, window) > cv2.erode(brightness, window)
    local = cv2.blur(brightness, window.shape)
    return energies_within(detail, outside & varies & (local > _SHOWN[0]) & (local < _SHOWN[1]))


def ramp(value: float, ends: tuple[float, float]) -> float:
    """0 up to the first end, 1 from the second, linear between."""
    return float(np.clip((value - ends[0]) / (ends[1] - ends[0]), 0, 1))


def _level(energies: Iterable[NDArray[np.float32]]) -> float:
    """The standard deviation of what is everywhere, from the energies of a face's parts; 0 for no pixels."""
    whole = np.concatenate(list(energies) or [np.zeros(0, np.float32)])
    return float(np.sqrt(np.percentile(whole, _FLATTEST))) if whole.size else 0.0
