"""Jitter of a face's contours: how far each pixel of one frame is from its own trajectory.

An encoder that copies blocks puts them down a fraction of a pixel beside their place, another one in every frame, and
an average in time that follows the frame's own contours keeps that. A trajectory is a straight line through a pixel's
places in the frames around: where they lie on one, the pixel belongs there too. Where they do not, as on lips and lids
that move by themselves, it stays; and what the whole face does, a camera that shakes, is no jitter.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from .align import Matrix

Flow = NDArray[np.float32]

_RESIDUAL = 0.25  # pixels of 256 a side: root mean square from its line at which a trajectory half counts as straight
_BLUR = 3.0  # pixels of 256 a side
_FEWEST = 4  # neighbours in time that make a line


def jitter(flows: Mapping[int, Flow], to_here: Mapping[int, Matrix], weights: Mapping[int, float]) -> Flow:
    """The way from each pixel of a crop to where its trajectory passes, [S, S, 2] in pixels; a fraction of one.

    `flows` [S, S, 2] lead to its neighbours' crops, by their distance in frames; `to_here` maps a neighbour's crop to
    this one by where both lie in the picture. `weights` are those of the frames in the line, this one's being 1.
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
