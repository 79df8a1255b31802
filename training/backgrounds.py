"""What is around faces, drawn: overlapping shapes, and fine details that belong to a scene."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Image8 = NDArray[np.uint8]  # [H, W, 3]

_FINE = 3  # details are drawn so many times larger, for the smoothness of lines


def dead_leaves(side: int, rng: np.random.Generator) -> Image8:
    """Shapes of all sizes that hide each other, whose edges have the statistics of natural images: [side, side, 3]."""
    image = np.full((2 * side, 2 * side, 3), rng.integers(0, 256, 3), np.uint8)
    palette = rng.integers(0, 256, (8, 3))
    for _ in range(rng.integers(20, 160)):
        radius = min(side, int(3 / rng.uniform(0.03, 1) ** 1.2) * 2)
        middle = tuple(int(n) for n in rng.integers(0, 2 * side, 2))
        color = tuple(int(n) for n in np.clip(palette[rng.integers(8)] + rng.normal(0, 12, 3), 0, 255))
        if rng.random() < 0.5:
            axes = (radius, max(1, int(radius * rng.uniform(0.2, 1))))
            cv2.ellipse(image, middle, axes, rng.uniform(0, 180), 0, 360, color, -1, cv2.LINE_AA)
        else:
            angles = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 7)))
            corners = middle + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
            cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], color, cv2.LINE_AA)
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    shade = cv2.resize(rng.normal(1, 0.15, (4, 4)), (side, side), interpolation=cv2.INTER_CUBIC)
    texture = rng.normal(0, rng.uniform(0, 14), (side, side)) * (rng.random() < 0.5)
    texture = cv2.GaussianBlur(texture, (0, 0), rng.uniform(0.5, 2))
    return np.clip(image * shade[..., None] + 2 * texture[..., None], 0, 255).astype(np.uint8)


def with_glasses(face: Image8, rng: np.random.Generator) -> Image8:
    """An aligned face [S, S, 3] with thin frames of glasses, which look like scratches most of all."""
    fine = cv2.resize(face, None, fx=_FINE, fy=_FINE, interpolation=cv2.INTER_CUBIC)
    side, width, shape = len(fine), int(rng.integers(2, 8)), rng.uniform(2, 6)
    metal = _color(rng) if rng.random() < 0.6 else (int(rng.integers(90, 220)), int(rng.integers(70, 160)), 60)
    wide, tall = rng.uniform(0.08, 0.118), rng.uniform(0.055, 0.11)
    drop, tilt = rng.uniform(-0.01, 0.04), rng.normal(0, 0.02)
    t = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    rim = np.stack([wide * _rounded(np.cos(t), shape), tall * _rounded(np.sin(t), shape)], 1)
    rims = [np.array((x, 0.473 + drop + sign * tilt)) + rim * (sign, 1) for x, sign in ((0.376, -1), (0.627, 1))]
    for one in rims:
        start = int(rng.integers(60)) if rng.random() < 0.3 else 0  # half a rim
        _path(fine, (one[start:] if start else one) * side, metal, width, closed=not start)
    inner, outer = (0.376 + wide, 0.627 - wide), (0.376 - wide, 0.627 + wide)
    level = 0.473 + drop - 0.3 * tall
    _path(fine, _curve(np.array(((inner[0], level), (0.5, level - 0.03), (inner[1], level))) * side), metal, width)
    for x, sign in zip(outer, (-1, 1), strict=True):
        _path(fine, np.array(((x, level), (x + sign * 0.09, level - rng.uniform(0, 0.03)))) * side, metal, width)
    if rng.random() < 0.5:  # light on the rims
        glint = rims[int(rng.integers(2))][int(rng.integers(50)) :][: int(rng.integers(3, 10))]
        _path(fine, glint * side, (255, 255, 250), max(1, width - 1))
    return np.asarray(cv2.resize(fine, face.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _rounded(value: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """Of a cosine or sine, that of a superellipse: 2 = an ellipse, more = a rounded rectangle."""
    rounded: NDArray[np.float64] = np.sign(value) * np.abs(value) ** (2 / shape)
    return rounded


def with_details(image: Image8, rng: np.random.Generator) -> Image8:
    """An image with fine details of scenes, smooth or regular: hair, wires, foliage, stripes, letters, lace."""
    fine = cv2.resize(image, None, fx=_FINE, fy=_FINE, interpolation=cv2.INTER_CUBIC)
    kinds = (_strands, _strands, _wires, _clutter, _clutter, _outlines, _grid, _letters, _beads, _zigzags)
    for number in rng.choice(len(kinds), size=rng.integers(1, 3)):
        kinds[number](fine, rng)
    return np.asarray(cv2.resize(fine, image.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _color(rng: np.random.Generator) -> tuple[int, ...]:
    light = rng.random()
    if light < 0.4:
        return (int(rng.integers(190, 256)),) * 3
    return (int(rng.integers(0, 70)),) * 3 if light < 0.7 else tuple(int(n) for n in rng.integers(0, 256, 3))


def _near(color: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(min(255, max(0, round(n * rng.uniform(0.5, 1.2)))) for n in color)


def _path(image: Image8, points: NDArray[np.float64], color: tuple[int, ...], width: int, closed: bool = False) -> None:
    """A line through points [N, 2] in pixels."""
    cv2.polylines(image, [np.rint(points * 16).astype(np.int32)], closed, color, width, cv2.LINE_AA, 4)


def _curve(ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points [24, 2] of the quadratic Bezier curve with three control points [3, 2]."""
    t = np.linspace(0, 1, 24)[:, None]
    points: NDArray[np.float64] = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
    return points


def _strands(image: Image8, rng: np.random.Generator) -> None:
    """A bundle of nearly parallel curves, as hair, grass and folds."""
    base, color, spread = rng.uniform(-0.1, 1.1, (3, 2)), _color(rng), rng.uniform(0.01, 0.15)
    for _ in range(rng.integers(5, 60)):
        curve = _curve((base + rng.normal(0, spread, (3, 2))) * len(image))
        _path(image, curve, _near(color, rng), int(rng.integers(1, 5)))


def _wires(image: Image8, rng: np.random.Generator) -> None:
    """A few long smooth lines of constant width."""
    for _ in range(rng.integers(1, 6)):
        _path(image, _curve(rng.uniform(-0.2, 1.2, (3, 2)) * len(image)), _color(rng), int(rng.integers(2, 14)))


def _clutter(image: Image8, rng: np.random.Generator) -> None:
    """Very many short strokes and dots, as foliage, crowds, water and rubble."""
    colors, size = [_color(rng) for _ in range(4)], rng.uniform(4, 40)
    left, top = rng.uniform(-0.5, 0.5, 2) * len(image)
    for _ in range(rng.integers(60, 500)):
        at = np.array((left, top)) + rng.uniform(0, len(image), 2)
        to = at + rng.normal(0, size, 2)
        _path(image, np.stack([at, to]), _near(colors[rng.integers(4)], rng), int(rng.integers(1, 9)))


def _outlines(image: Image8, rng: np.random.Generator) -> None:
    """Frames of glasses, windows, collars and buttons: closed lines."""
    for _ in range(rng.integers(1, 8)):
        color, width = _color(rng), int(rng.integers(2, 12))
        middle, radius = rng.uniform(0, len(image), 2), rng.uniform(5, 120) * rng.uniform(0.4, 1, 2)
        corners = int(rng.choice((4, 4, 40)))
        angles = np.linspace(0, 2 * math.pi, corners, endpoint=False) + rng.uniform(0, math.pi)
        for shift in range(int(rng.choice((1, 1, 2)))):  # a pair
            _path(image, middle + (2.3 * shift * radius[0], 0) + radius * np.stack([np.cos(angles), np.sin(angles)], 1),
                  color, width, closed=True)  # fmt: skip


def _grid(image: Image8, rng: np.random.Generator) -> None:
    """Stripes, a fence or panes."""
    side, gap, width = len(image), int(rng.integers(10, 80)), int(rng.integers(2, 10))
    color, angle = _color(rng), rng.uniform(0, math.pi)
    for turned in (angle, angle + math.pi / 2)[: int(rng.integers(1, 3))]:
        along, across = (np.array((math.cos(a), math.sin(a))) for a in (turned, turned + math.pi / 2))
        for offset in range(-side, side, gap):
            middle = side / 2 + offset * across
            _path(image, np.stack([middle - 2 * side * along, middle + 2 * side * along]), color, width)


def _letters(image: Image8, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 5)):
        text = "".join(chr(n) for n in rng.integers(48, 123, rng.integers(2, 9)))
        at = tuple(int(n) for n in rng.uniform(0, 0.8, 2) * len(image))
        scale, width = rng.uniform(0.5, 3), int(rng.integers(1, 6))
        cv2.putText(image, text, at, int(rng.integers(8)), scale, _color(rng), width, cv2.LINE_AA)


def _beads(image: Image8, rng: np.random.Generator) -> None:
    """Round dots along a curve or in rows: pearls, buttons, flowers, highlights."""
    color, radius = _color(rng), rng.uniform(1.5, 12)
    places = _curve(rng.uniform(-0.1, 1.1, (3, 2)) * len(image))
    if rng.random() < 0.5:
        places = rng.uniform(0, len(image), (int(rng.integers(1, 12)), 2))
    for at in places.tolist():
        middle = (round(at[0] * 16), round(at[1] * 16))
        cv2.circle(image, middle, round(radius * 16), _near(color, rng), -1, cv2.LINE_AA, 4)


def _zigzags(image: Image8, rng: np.random.Generator) -> None:
    """Embroidery, lace and braid: a short pattern, repeated."""
    pattern = rng.normal(0, rng.uniform(4, 20), (int(rng.integers(2, 6)), 2))
    color, width = _color(rng), int(rng.integers(1, 7))
    at, step = rng.uniform(0, len(image), 2), rng.normal(0, 1, 2) * rng.uniform(5, 25)
    count = int(rng.integers(5, 40))
    points = at + np.tile(pattern, (count, 1)) + np.repeat(np.arange(count), len(pattern))[:, None] * step
    _path(image, points, color, width)
