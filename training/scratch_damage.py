"""What the surface of an old print has been through: cracks, creases, scratches, dust, fibres and spots, drawn."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]  # [H, W, 3] in 0 to 1
Plane = NDArray[np.float32]  # [H, W] in 0 to 1

_FINE = 3  # canvases are drawn so many times larger, for the smoothness of lines
_SHIFT = 4  # fractional bits of OpenCV's coordinates


class Damaged(NamedTuple):
    image: Image
    opacity: Plane  # of the damage; where it is 0 the image is as it was


def damage(image: Image, rng: np.random.Generator) -> Damaged:
    """An image with one to four kinds of damage."""
    opacity = np.zeros(image.shape[:2], np.float32)
    kinds = (cracks, cracks, network_of_cracks, creases, scratches, dust, dust, fibres, spots, scuffs)
    for number in rng.choice(len(kinds), size=rng.integers(1, 5)):
        drawn = _worn(kinds[number](len(opacity), rng), rng)
        color = _color(rng)
        if rng.random() < 0.35:  # a raised edge, which throws a shadow or a light
            dy, dx = (int(n) for n in rng.integers(-2, 3, size=2))
            edge = np.roll(drawn, (dy, dx), (0, 1))[..., None] * rng.uniform(0.1, 0.6)
            image = image + edge * (rng.choice((0.0, 0.0, 1.0)) - image)
            opacity = np.maximum(opacity, edge[..., 0])
        image = image + drawn[..., None] * (color - image)
        opacity = np.maximum(opacity, drawn)
    return Damaged(image.astype(np.float32), opacity)


def cracks(side: int, rng: np.random.Generator) -> Plane:
    """One to three long jagged lines of varying width, which may branch."""
    canvas, width = _canvas(side), math.exp(rng.uniform(math.log(0.8), math.log(5)))
    for _ in range(rng.integers(1, 4)):
        _random_walk(canvas, rng, width, rng.uniform(0.12, 0.6), length=int(rng.integers(20, 90)), branches=0.04)
    return _finished(canvas)


def network_of_cracks(side: int, rng: np.random.Generator) -> Plane:
    """Many fine cracks all over."""
    canvas, width = _canvas(side), rng.uniform(0.5, 1.8)
    for _ in range(rng.integers(4, 14)):
        _random_walk(canvas, rng, width, rng.uniform(0.2, 0.6), length=int(rng.integers(8, 50)), branches=0.08)
    return _finished(canvas)


def creases(side: int, rng: np.random.Generator) -> Plane:
    """A nearly straight fold, wide and worn."""
    canvas = _canvas(side)
    _random_walk(
        canvas, rng, rng.uniform(1.5, 9), rng.uniform(0.01, 0.06), length=200, branches=0.0, start_at_edge=True
    )
    return _finished(canvas) * np.float32(rng.uniform(0.4, 1))


def scratches(side: int, rng: np.random.Generator) -> Plane:
    """Fine, long lines, nearly straight, often parallel."""
    canvas, angle = _canvas(side), rng.uniform(0, 2 * math.pi)
    for _ in range(rng.integers(1, 8)):
        angle = angle + rng.normal(0, 0.06) if rng.random() < 0.7 else rng.uniform(0, 2 * math.pi)
        _random_walk(canvas, rng, rng.uniform(0.4, 1.6), 0.02, int(rng.integers(5, 120)), 0.0, angle)
    return _finished(canvas) * np.float32(rng.uniform(0.35, 1))


def dust(side: int, rng: np.random.Generator) -> Plane:
    """Specks of irregular shape."""
    canvas = _canvas(side)
    for _ in range(rng.integers(3, 60)):
        _blob(canvas, rng, math.exp(rng.uniform(math.log(0.4), math.log(2.2))))
    return _finished(canvas)


def spots(side: int, rng: np.random.Generator) -> Plane:
    """Places where the emulsion is gone."""
    canvas = _canvas(side)
    for _ in range(rng.integers(1, 5)):
        _blob(canvas, rng, math.exp(rng.uniform(math.log(2), math.log(9))))
    return _finished(canvas)


def fibres(side: int, rng: np.random.Generator) -> Plane:
    """Thin curled hairs that lay on the glass."""
    canvas = _canvas(side)
    for _ in range(rng.integers(1, 5)):
        _random_walk(canvas, rng, rng.uniform(0.6, 1.3), 0.08, int(rng.integers(5, 20)), 0.0, curl=rng.normal(0, 0.12))
    return _finished(canvas) * np.float32(rng.uniform(0.5, 1))


def scuffs(side: int, rng: np.random.Generator) -> Plane:
    """A rubbed place: many short fine strokes beside each other."""
    canvas, angle = _canvas(side), rng.uniform(0, 2 * math.pi)
    middle = rng.uniform(0.2, 0.8, 2) * len(canvas)
    for _ in range(rng.integers(10, 40)):
        start = middle + rng.normal(0, 0.12 * len(canvas), 2)
        _random_walk(
            canvas, rng, rng.uniform(0.4, 1.0), 0.05, int(rng.integers(1, 6)), 0.0, angle + rng.normal(0, 0.2), start
        )
    return _finished(canvas) * np.float32(rng.uniform(0.3, 0.9))


def _canvas(side: int) -> NDArray[np.uint8]:
    return np.zeros((side * _FINE, side * _FINE), np.uint8)


def _finished(canvas: NDArray[np.uint8]) -> Plane:
    side = len(canvas) // _FINE
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def _random_walk(
    canvas: NDArray[np.uint8],
    rng: np.random.Generator,
    width: float,
    jitter: float,
    length: int,
    branches: float,
    angle: float | None = None,
    start: NDArray[np.float64] | None = None,
    curl: float = 0.0,
    start_at_edge: bool = False,
) -> None:
    """Draw a line of so many steps; its width is in pixels of the result, what turns it in radians a step."""
    side = len(canvas)
    at = rng.uniform(0, side, 2) if start is None else start
    if start_at_edge or (start is None and rng.random() < 0.5):
        at[int(rng.integers(2))] = rng.choice((0, side))
    angle = rng.uniform(0, 2 * math.pi) if angle is None else angle
    heading = angle + _drifting(rng.normal(0, jitter, length), 0.0 if curl else 0.1) + curl * np.arange(1, length + 1)
    widths = width * np.exp(_drifting(rng.normal(0, 0.2, length), 0.1)).clip(0.4, 1.7)
    step = rng.uniform(0.6, 1.8, length) * 2.5 * _FINE
    points = at + np.cumsum(step[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1), 0)
    outside = ((points < -0.1 * side) | (points > 1.1 * side)).any(1)
    last = int(outside.argmax()) if outside.any() else length
    ends = np.rint(np.concatenate([at[None], points]) * 2**_SHIFT).astype(int).tolist()
    thick = np.maximum(1, np.rint(widths * _FINE)).astype(int).tolist()
    for a, b, wide in zip(ends[:last], ends[1:], thick, strict=False):
        cv2.line(canvas, a, b, 255, wide, cv2.LINE_AA, _SHIFT)
    for place in np.flatnonzero(rng.random(last) < branches):
        turned = heading[place] + rng.choice((-1, 1)) * rng.uniform(0.4, 1.4)
        _random_walk(canvas, rng, 0.7 * width, jitter, length // 2, 0.0, turned, points[place])


def _drifting(changes: NDArray[np.float64], back: float) -> NDArray[np.float64]:
    """The sum of changes, which returns to 0 by this share a step."""
    at, sums = 0.0, []
    for change in changes.tolist():
        at = (1 - back) * at + change
        sums.append(at)
    return np.array(sums)


def _blob(canvas: NDArray[np.uint8], rng: np.random.Generator, radius: float) -> None:
    middle, corners = rng.uniform(0, len(canvas), 2), int(rng.integers(5, 11))
    angles = np.sort(rng.uniform(0, 2 * math.pi, corners))
    reach = radius * _FINE * rng.uniform(0.4, 1.5, corners) * rng.uniform(0.6, 1.4)
    points = middle + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    cv2.fillPoly(canvas, [np.rint(points * 2**_SHIFT).astype(np.int32)], 255, cv2.LINE_AA, _SHIFT)


def _worn(opacity: Plane, rng: np.random.Generator) -> Plane:
    """Damage is worn unevenly, and its edges are as soft as the scan."""
    if rng.random() < 0.6:
        coarse = rng.standard_normal((1 + len(opacity) // int(rng.integers(2, 12)),) * 2, dtype=np.float32)
        uneven = cv2.resize(coarse, opacity.shape[::-1], interpolation=cv2.INTER_CUBIC)
        opacity = opacity * (rng.uniform(0.4, 1.2) + rng.uniform(0.2, 1) * uneven).clip(0, 1)
    if rng.random() < 0.5:
        opacity = cv2.GaussianBlur(opacity, (0, 0), rng.uniform(0.3, 0.9))
    return np.asarray(opacity * rng.uniform(0.5, 1), np.float32)


def _color(rng: np.random.Generator) -> Image:
    """Mostly of the bare paper, else dark, or of a stain."""
    kind = rng.random()
    if kind < 0.7:
        light, yellow = rng.uniform(0.7, 1.0), rng.uniform(0, 0.25) * np.array((0, 0.35, 1)) * (rng.random() < 0.5)
        return (light * (1 - yellow)).astype(np.float32)
    if kind < 0.9:
        return np.full(3, rng.uniform(0, 0.25), np.float32)
    return rng.uniform(0, 1, 3).astype(np.float32)
