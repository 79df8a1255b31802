"""The plot of comparison.py: distance to full precision over average bits and over file size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quantface_core.charts.canvas import BLUE, INK, SOFT, VERMILION, Canvas
from quantface_core.charts.plot import Scale, draw_frame, linear_scale

_WIDTH, _HEIGHT = 1180, 560
_TOP, _BOTTOM = 120, 480
_PANELS = ((90, 570), (660, 1140))
_COLORS = (BLUE, VERMILION, "#009E73", "#7A5195", "#8C8C8C", "#B8860B", "#56B4E9", "#333333")


class Measured(Protocol):
    """One row's results."""

    @property
    def method(self) -> str: ...

    @property
    def weight_bits(self) -> float: ...

    @property
    def activation_bits(self) -> float: ...

    @property
    def megabytes(self) -> float: ...

    @property
    def to_full(self) -> float: ...


def draw_comparison(points: Sequence[Measured]) -> NDArray[np.uint8]:
    """Methods as curves, uint8 [560, 1180, 3]; trained or allocated points are rings in their method's colour."""
    canvas = Canvas(_WIDTH, _HEIGHT)
    families = list(dict.fromkeys(family(point) for point in points))
    colors = {name: _COLORS[i % len(_COLORS)] for i, name in enumerate(_ours_first(families))}
    canvas.text(_PANELS[0][0], 14, "Distance to full precision (dB, higher is closer)", size=18)
    for i, name in enumerate(colors):
        left, top = _PANELS[0][0] + (i % 3) * 350, 52 + (i // 3) * 20
        canvas.dot(left + 5, top, 5, colors[name])
        canvas.text(left + 18, top, name, anchor="lm", color=SOFT)
    y = linear_scale([point.to_full for point in points], _BOTTOM, _TOP)
    panels = (
        (lambda p: (p.weight_bits + p.activation_bits) / 2, "average bits of weights and activations"),
        (lambda p: p.megabytes, "megabytes of the file"),
    )
    for (left, right), (value, name) in zip(_PANELS, panels, strict=True):
        x = linear_scale([value(point) for point in points], left, right)
        draw_frame(canvas, x, y)
        _draw_ticks(canvas, x, name)
        for method, color in colors.items():
            own = [(value(p), p) for p in points if family(p) == method]
            own.sort(key=lambda pair: (round(pair[0], 1), pair[1].to_full))  # at equal size, the better last
            uniform = [(x(at), y(p.to_full)) for at, p in own if p.method == method]
            if len(uniform) > 1:
                canvas.line(uniform, color, 2)
            for at, point in own:
                ring = None if point.method == method else "#FFFFFF"
                canvas.dot(x(at), y(point.to_full), 5, color, ring)
    canvas.text(_WIDTH / 2, _HEIGHT - 22, "rings: allocated or trained", anchor="mm", color=SOFT)
    return canvas.finish()


def family(point: Measured) -> str:
    """The method without what was added to it."""
    return point.method.split(",")[0]


def _ours_first(families: Sequence[str]) -> list[str]:
    return sorted(families, key=lambda name: name != "ours")


def _draw_ticks(canvas: Canvas, x: Scale, name: str) -> None:
    for value, label in x.ticks():
        canvas.line([(x(value), _BOTTOM), (x(value), _BOTTOM + 4)], SOFT)
        canvas.text(x(value), _BOTTOM + 8, label, anchor="ma", color=SOFT)
    canvas.text((x.start + x.stop) / 2, _BOTTOM + 32, name, anchor="ma", color=INK)
