"""Motion-compensated temporal average of a face: calms a film's noise, preserves motion.

A face is followed from frame to frame by dense optical flow between its aligned crops, and averaged along it: its
neighbours in time are further observations of the same skin. A neighbour counts by its distance in frames and, pixel by
pixel, by how far the two agree within the film's own noise. What flow cannot follow, a lid that closes or a hand before
the face, disagrees and is left to its own frame; so is a film without noise. Its contours are put where their
trajectories pass (`jitter`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..runtime.threads import opencv_side_by_side
from ..types import Pixels
from .align import Matrix, compose, extract, footprint, invert, magnification, resizing, shift, warp
from .jitter import jitter

Crop = NDArray[np.float32]
Plane = NDArray[np.float32]

_SIDE = 256  # pixels of the crops between which flow is searched, where the restorer's are no smaller
_GUIDE_BLUR = 1.5  # pixels of it: noise would be followed otherwise
_COMPARE_BLUR = 2.0  # pixels of it, before two frames are compared
_MARGIN = 0.05  # of its side: how far beyond its crop a face may be followed
_NOISE_SCALE = 3.0  # times the noise that is left after the blur: a difference up to about that still counts as none
_MIN_TOLERANCE, _MAX_TOLERANCE = 1.0 / 255, 12 / 255  # of full white; a small motion must differ in a noisy film too
_QUIET = (0.2 / 255, 0.5 / 255)  # noise of full white up to which a film is left as it is, from which it is averaged
_FLATTEST = 25  # percent of a face by whose differences its noise is measured: elsewhere motion adds to them


@dataclass(frozen=True)
class View:
    """A face in one frame, and what it is compared by."""

    pixels: Pixels  # [h, w, 3]: the part of the frame that is about it
    corner: tuple[int, int]  # left, top of that part in the frame
    place: Matrix  # from the crop to the part
    guide: NDArray[np.uint8]  # [S, S]: luma, by which it is followed
    crop: Crop  # [S, S, 3], S being at most 256, by which what is followed is compared


@dataclass(frozen=True)
class Link:
    """The way from a face in one frame to the same face in another."""

    flow: NDArray[np.float16]  # [S, S, 2]: from each pixel of this crop to its place in the other, in pixels
    weight: NDArray[np.float16]  # [S, S] in 0 to 1: how much the other counts, its own frame being 1


def gaussian(offset: float, sigma: float) -> float:
    """exp(-offset^2 / (2 sigma^2)), both in frames; with a sigma of 0 it is 1 at 0 and 0 elsewhere."""
    return float(np.exp(-0.5 * (offset / sigma) ** 2)) if sigma else float(offset == 0)


def view_of(pixels: Pixels, transform: Matrix, size: int) -> View:
    """A face of a frame [H, W, 3], by the map from the frame to its crop of `size`. Raises ImageError outside of it."""
    side = min(size, _SIDE)
    to_crop = compose(resizing(size, size, side, side), transform)
    crop = extract(pixels, to_crop, side)
    height, width = pixels.shape[:2]
    margin = int(np.ceil(_MARGIN * side / magnification(to_crop))) + 4
    left, top, right, bottom = footprint(invert(to_crop), side, width, height, margin)
    luma = cv2.cvtColor(cv2.GaussianBlur(crop, (0, 0), _GUIDE_BLUR), cv2.COLOR_RGB2GRAY)
    return View(
        pixels[top:bottom, left:right].copy(),
        (left, top),
        compose(shift(-left, -top), invert(to_crop)),
        np.rint(luma * 255).astype(np.uint8),
        crop,
    )


def links_of(views: Mapping[int, View], sigma: float) -> dict[int, Link]:
    """The ways from a frame of a face, 0, to itself and its neighbours in time; none where the film has no noise.

    Views and links go by their distance in frames. Links begin where the frame's contours lie without their jitter.
    `sigma`, in frames, is the standard deviation of the weights in time.
    """
    here = views[0]
    if len(views) == 1:
        return {}

    def compare(other: int) -> tuple[NDArray[np.float32], Crop]:
        flow = _flow(here.guide, views[other].guide)
        return flow, here.crop - follow(views[other].crop, flow)

    others = [other for other in views if other]
    compared = dict(zip(others, opencv_side_by_side(compare, others), strict=True))
    flows = {other: flow for other, (flow, _) in compared.items()}
    apart = {other: difference for other, (_, difference) in compared.items()}
    noise = float(np.median([_noise(difference) for difference in apart.values()]))
    strength = float(np.clip((noise - _QUIET[0]) / (_QUIET[1] - _QUIET[0]), 0, 1))
    if not strength:
        return {}
    squares = {o: np.square(cv2.GaussianBlur(d, (0, 0), _COMPARE_BLUR)).mean(2) for o, d in apart.items()}
    left = float(np.median([np.sqrt(np.median(square)) for square in squares.values()]))
    tolerance = float(np.clip(_NOISE_SCALE * left, _MIN_TOLERANCE, _MAX_TOLERANCE))
    to_film = {other: compose(shift(*view.corner), view.place) for other, view in views.items()}
    to_here = {other: compose(invert(to_film[0]), to_film[other]) for other in flows}
    in_time = {other: gaussian(other, sigma) for other in flows}
    offset = strength * jitter(flows, to_here, in_time)
    links = {0: Link((-offset).astype(np.float16), np.ones(offset.shape[:2], np.float16))}
    for other, flow in flows.items():
        similar = np.exp(-squares[other] / (2 * tolerance**2))
        begun = flow - offset @ np.linalg.inv(to_here[other][:, :2]).T.astype(np.float32)
        links[other] = Link(begun.astype(np.float16), (strength * in_time[other] * similar).astype(np.float16))
    return links


def follow(crop: Crop, flow: NDArray[np.floating]) -> Crop:
    """A crop [S, S, 3] of another frame, laid on this one along its flow [s, s, 2]."""
    size = len(crop)
    flow = _to_size(np.asarray(flow, np.float32), size) * (size / len(flow))
    grid = np.indices((size, size), np.float32)[::-1].transpose(1, 2, 0)
    moved: Crop = cv2.remap(crop, grid + flow, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return moved


def average_crops(crops: Mapping[int, Crop], links: Mapping[int, Link]) -> Crop:
    """A face's crop [S, S, 3] averaged with those of its neighbours in time."""
    total, weights = crops[0].copy(), np.ones(crops[0].shape[:2], np.float32)
    for other, link in links.items():
        if other and other in crops:  # its own has its contours in place
            weight = _to_size(link.weight.astype(np.float32), len(total))
            total += weight[..., None] * follow(crops[other], link.flow)
            weights += weight
    return total / weights[..., None]


def average_film(views: Mapping[int, View], links: Mapping[int, Link]) -> NDArray[np.float32]:
    """The part of the film about a face, averaged with its neighbours in time: [h, w, 3] in the film's units."""
    here = views[0]
    if not links:
        return here.pixels.astype(np.float32)
    height, width = here.pixels.shape[:2]

    def weighted(other: int) -> tuple[NDArray[np.float32], Plane]:
        link = links[other]
        weight: Plane = cv2.warpAffine(
            link.weight.astype(np.float32), here.place, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        return weight[..., None] * _followed_film(here, views[other], link.flow.astype(np.float32)), weight

    total, weights = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    for part, weight in opencv_side_by_side(weighted, links):
        total += part
        weights += weight
    return total / weights[..., None]


def mask_over(view: View, mask: Plane) -> Plane:
    """An aligned crop's mask [S, S] over the part of the film, [h, w]; exactly 0 where it is next to 0."""
    height, width = view.pixels.shape[:2]
    place = compose(view.place, resizing(len(mask), len(mask), len(view.crop), len(view.crop)))
    soft = warp(mask, place, width, height, cv2.BORDER_REPLICATE)
    return np.where(soft > 1 / 512, np.clip(soft, 0, 1), 0).astype(np.float32)


def _followed_film(here: View, there: View, flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """The film's own pixels of another frame, laid on this one."""
    height, width = here.pixels.shape[:2]
    offsets = cv2.warpAffine(flow, here.place, (width, height), borderMode=cv2.BORDER_REPLICATE)
    still = compose(there.place, invert(here.place))
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    linear = there.place[:, :2].astype(np.float32)
    places = offsets @ linear.T
    for axis, (a, b, c) in enumerate(still.astype(np.float32)):
        places[..., axis] += a * x + b * y + c
    pixels = cv2.remap(there.pixels, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return pixels.astype(np.float32)


def _flow(here: NDArray[np.uint8], there: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Dense inverse search (Kroeger et al. 2016). Among several threads of OpenCV it would find another flow."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow: NDArray[np.float32] = search.calc(here, there, None)
    return flow


def _noise(difference: Crop) -> float:
    """The noise of two frames by what differs between them, in shares of full white: a standard deviation."""
    margin = len(difference) // 5
    inner = np.s_[margin:-margin, margin:-margin]
    energy = cv2.blur(np.square(difference[inner]).mean(2), (9, 9))
    return float(np.sqrt(np.percentile(energy, _FLATTEST) / 2))


def _to_size(field: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    if len(field) == size:
        return field
    resized: NDArray[np.float32] = cv2.resize(field, (size, size), interpolation=cv2.INTER_LINEAR)
    return resized
