"""Motion-compensated temporal average of a face: reduces a film's noise, preserves motion.

Dense optical flow between aligned crops tracks a face from frame to frame, and the face is averaged along it: its
neighbours in time are further observations of the same skin. A neighbour is weighted by its distance in frames and,
pixel by pixel, by how well the two agree within the film's own noise. What flow cannot track, such as a closing eyelid
or a hand in front of the face, disagrees and is taken from its own frame alone; so is everything in a film without
noise. Contours are moved onto their trajectories (`jitter`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..runtime.threads import opencv_side_by_side
from ..types import Crop, Pixels, Plane
from .align import Matrix, compose, extract, footprint, invert, magnification, resizing, shift
from .area import Area
from .jitter import jitter
from .noise import ramp
from .paste import mask_over

_SIDE = 256  # pixels, side of the crops for optical flow, unless the restorer's are smaller
_GUIDE_BLUR = 1.5  # pixels of it: otherwise flow would track noise
_COMPARE_BLUR = 2.0  # pixels of it, before two frames are compared
_MARGIN = 0.05  # of its side: how far beyond its crop a face is tracked
_NOISE_SCALE = 3.0  # times the noise that remains after the blur: differences up to about that are tolerated
_MIN_TOLERANCE, _MAX_TOLERANCE = 1.0 / 255, 12 / 255  # of full white; even in a noisy film a small motion must show
_QUIET = (0.2 / 255, 0.5 / 255)  # noise, of full white: no averaging up to the first, full from the second
_FLATTEST = 25  # percentile of local differences by which noise is measured: larger ones include motion


@dataclass(frozen=True)
class View:
    """A face in one frame, with the crops by which it is tracked and compared."""

    pixels: Pixels  # [h, w, 3]: the part of the frame around it
    area: Area  # that part in the frame
    place: Matrix  # from the crop to that part
    guide: NDArray[np.uint8]  # [S, S]: blurred luma, for optical flow
    crop: Crop  # [S, S, 3] in 0 to 1, S at most 256, for comparison


@dataclass(frozen=True)
class Link:
    """The motion of a face from one frame to another, and the weight of the other in an average."""

    flow: NDArray[np.float16]  # [S, S, 2] in pixels: from each pixel of this crop to its place in the other
    weight: NDArray[np.float16]  # [S, S] in 0 to 1: weight of the other, this frame's being 1


def gaussian(offset: float, sigma: float) -> float:
    """exp(-offset^2 / (2 sigma^2)), both in frames; with a sigma of 0 it is 1 at 0 and 0 elsewhere."""
    return float(np.exp(-0.5 * (offset / sigma) ** 2)) if sigma else float(offset == 0)


def view_of(pixels: Pixels, transform: Matrix, size: int) -> View:
    """The view of a face in a frame [H, W, 3], from the map `transform` from the frame to its crop of `size` pixels.

    Raises ImageError when the face lies outside the frame.
    """
    side = min(size, _SIDE)
    to_crop = compose(resizing(size, size, side, side), transform)
    crop = extract(pixels, to_crop, side)
    height, width = pixels.shape[:2]
    margin = int(np.ceil(_MARGIN * side / magnification(to_crop))) + 4
    area = footprint(invert(to_crop), side, width, height, margin)
    luma = cv2.cvtColor(cv2.GaussianBlur(crop, (0, 0), _GUIDE_BLUR), cv2.COLOR_RGB2GRAY)
    return View(
        pixels[area.pixels].copy(),
        area,
        compose(shift(-area.left, -area.top), invert(to_crop)),
        np.rint(luma * 255).astype(np.uint8),
        crop,
    )


def links_of(views: Mapping[int, View], sigma: float) -> dict[int, Link]:
    """The links from a face in frame 0 to itself and its neighbours in time; empty where the film has no noise.

    Views and links are keyed by distance in frames. Links start from the frame's contours with their jitter removed.
    `sigma`, in frames, is the standard deviation of the temporal weights.
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
    strength = ramp(noise, _QUIET)
    if not strength:
        return {}
    squares = {o: np.square(cv2.GaussianBlur(d, (0, 0), _COMPARE_BLUR)).mean(2) for o, d in apart.items()}
    left = float(np.median([np.sqrt(np.median(square)) for square in squares.values()]))
    tolerance = float(np.clip(_NOISE_SCALE * left, _MIN_TOLERANCE, _MAX_TOLERANCE))
    to_film = {other: compose(shift(view.area.left, view.area.top), view.place) for other, view in views.items()}
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
    """A crop [S, S, 3] of another frame, warped onto this one by the flow [s, s, 2] from this one to it."""
    size = len(crop)
    flow = _to_size(np.asarray(flow, np.float32), size) * (size / len(flow))
    grid = np.indices((size, size), np.float32)[::-1].transpose(1, 2, 0)
    moved: Crop = cv2.remap(crop, grid + flow, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return moved


def average_crops(crops: Mapping[int, Crop], links: Mapping[int, Link]) -> Crop:
    """A face's crop [S, S, 3] averaged with those of its neighbours in time, by distance in frames."""
    total, weights = crops[0].copy(), np.ones(crops[0].shape[:2], np.float32)
    for other, link in links.items():
        if other and other in crops:  # this frame's contours were corrected before it was restored
            weight = _to_size(link.weight.astype(np.float32), len(total))
            total += weight[..., None] * follow(crops[other], link.flow)
            weights += weight
    return total / weights[..., None]


def average_film(views: Mapping[int, View], links: Mapping[int, Link]) -> NDArray[np.float32]:
    """The part of the frame around a face, averaged with its neighbours in time: [h, w, 3] in the film's units."""
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


def view_mask(view: View, mask: Plane) -> Plane:
    """An aligned crop's mask [S, S] mapped onto the view's part of the frame, [h, w]; values near 0 are exactly 0."""
    height, width = view.pixels.shape[:2]
    place = compose(view.place, resizing(len(mask), len(mask), len(view.crop), len(view.crop)))
    return mask_over(Area(0, 0, width, height), mask, place)


def _followed_film(here: View, there: View, flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pixels of another frame around a face, at the film's resolution, warped onto this one."""
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
    """Dense inverse search flow (Kroeger et al. 2016), [S, S, 2]. Its result depends on OpenCV's number of threads."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow: NDArray[np.float32] = search.calc(here, there, None)
    return flow


def _noise(difference: Crop) -> float:
    """The standard deviation of the noise of two frames, in shares of full white, from their difference."""
    margin = len(difference) // 5
    inner = np.s_[margin:-margin, margin:-margin]
    energy = cv2.blur(np.square(difference[inner]).mean(2), (9, 9))
    return float(np.sqrt(np.percentile(energy, _FLATTEST) / 2))


def _to_size(field: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    if len(field) == size:
        return field
    resized: NDArray[np.float32] = cv2.resize(field, (size, size), interpolation=cv2.INTER_LINEAR)
    return resized
