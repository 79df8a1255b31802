"""Jitter of a face's contours: how far each pixel of one frame is from its own trajectory.

A video encoder that copies blocks misplaces them by a fraction of a pixel, differently in every frame, and a temporal
average aligned to the frame's own contours preserves that. A trajectory is a straight line fitted to a pixel's
positions in the neighbouring frames: where these lie on a line, the pixel belongs on it too. Where they do not, as on
lips and eyelids that move on their own, it is left in place. Motion of the whole face, such as camera shake, is not
jitter.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from .align import Matrix

Flow = NDArray[np.float32]

_RESIDUAL = 0.25  # pixels at 256 a side: sigma of a trajectory's weight over its RMS distance from a straight line
_BLUR = 3.0  # pixels at 256 a side
_FEWEST = 4  # neighbours in time needed to fit a line


def jitter(flows: Mapping[int, Flow], to_here: Mapping[int, Matrix], weights: Mapping[int, float]) -> Flow:
    """The offset from each pixel of a crop to its trajectory, [S, S, 2] (x, y) in pixels, usually less than one.

    `flows` [S, S, 2] lead from this crop to those of its neighbours, by distance in frames; `to_here` maps each
    neighbour's crop to this one through their places in the frame. `weights` are the neighbours' weights in the fit of
    the line, this frame's being 1. Zeros when there are too few neighbours.
    """
    size = len(next(iter(flows.values())))
    if len(flows) < _FEWEST:
        return np.zeros((size, size, 2), np.float32)
    grid = np.indices((size, size), np.float32)[::-1].transpose(1, 2, 0)
    moved = [_mapped(grid + flow, to_here[other]) - grid for other, flow in flows.items()]
    steps = np.stack([np.zeros_like(grid), *moved])
    times = np.array([0, *flows], np.float32)
    shares = np.array([1, *(weights[other] for other in flows)], np.float32)
    shares /= shares.sum()
    centred = times - shares @ times
    speed = np.tensordot(shares * centred / (shares @ centred**2), steps, 1)
    offset = np.tensordot(shares, steps, 1) - speed * (shares @ times)
    residual = steps - offset - times[:, None, None, None] * speed
    square = np.tensordot(shares, np.square(residual).sum(3), 1)
    sigma = _BLUR * size / 256
    offset, square = cv2.GaussianBlur(offset, (0, 0), sigma), cv2.GaussianBlur(square, (0, 0), sigma)
    straight = np.exp(-square / (2 * (_RESIDUAL * size / 256) ** 2))[..., None]
    inner = np.s_[size // 4 : -(size // 4), size // 4 : -(size // 4)]
    common = (straight * offset)[inner].sum((0, 1)) / max(float(straight[inner].sum()), 1e-9)
    result: Flow = (straight * (offset - common)).astype(np.float32)
    return result


def _mapped(points: Flow, matrix: Matrix) -> Flow:
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
