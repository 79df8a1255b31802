"""A training run so far: its loss and validation scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from .canvas import BAND, BLUE, INK, PALE_BLUE, SOFT, VERMILION, Array, Canvas
from .plot import Scale, draw_frame, linear_scale, log_scale

_WIDTH, _HEIGHT = 1000, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 910, 92, 450
_SMOOTHED = 24  # the running median spans one in so many of the steps done


def draw_losses(losses: Sequence[float], scores: Sequence[tuple[int, float]], total: int) -> Array:
    """Losses and validation scores (steps done, PSNR in dB) so far, out of `total` steps; uint8 [520, 1000, 3]."""
    canvas = Canvas(_WIDTH, _HEIGHT)
    done, scores = len(losses), [(step, score) for step, score in scores if not math.isnan(score)]
    smooth = _running_median(losses, max(5, done // _SMOOTHED))
    x = Scale(0, max(total, done, 1), _LEFT, _RIGHT)
    y = log_scale([*losses, *(loss for _, loss in smooth)], _BOTTOM, _TOP)
    right = linear_scale([score for _, score in scores], _BOTTOM, _TOP) if scores else None
    canvas.text(_LEFT, 16, f"Step {done} of {total}", size=20)
    canvas.box(x(done), _TOP, _RIGHT, _BOTTOM, BAND)  # steps still to come
    draw_frame(canvas, x, y, "loss", right, "PSNR (dB)" if scores else "")
    for value, label in x.ticks(10):
        canvas.line([(x(value), _BOTTOM), (x(value), _BOTTOM + 4)], SOFT)
        canvas.text(x(value), _BOTTOM + 8, label, anchor="ma", color=SOFT)
    canvas.text((_LEFT + _RIGHT) / 2, _BOTTOM + 32, "steps", anchor="ma", color=INK)
    for curve, color, width in ((enumerate(losses, 1), PALE_BLUE, 1.0), (smooth, BLUE, 2.5)):
        points = [(x(step), y(loss)) for step, loss in curve]
        if done == 1:
            canvas.dot(*points[0], width, color)
        elif done:
            canvas.line(points, color, width)
    if right:
        points = [(x(step), right(score)) for step, score in scores]
        canvas.line(points, VERMILION, 1.5) if len(points) > 1 else None
        for point in points:
            canvas.dot(*point, 4, VERMILION)
    _draw_legend(canvas, smooth, scores)
    return canvas.finish()


def _draw_legend(canvas: Canvas, smooth: Sequence[tuple[int, float]], scores: Sequence[tuple[int, float]]) -> None:
    if smooth:
        canvas.line([(_LEFT, 64), (_LEFT + 24, 64)], BLUE, 2.5)
        canvas.text(_LEFT + 32, 64, f"loss, running median: {smooth[-1][1]:.3g}", size=15, anchor="lm", color=SOFT)
    if scores:
        best = max(score for _, score in scores)
        text = f"validation: {scores[-1][1]:.2f} dB, best {best:.2f} dB"
        canvas.line([(_LEFT + 380, 64), (_LEFT + 404, 64)], VERMILION, 1.5)
        canvas.dot(_LEFT + 392, 64, 4, VERMILION)
        canvas.text(_LEFT + 412, 64, text, size=15, anchor="lm", color=SOFT)


def _running_median(losses: Sequence[float], width: int) -> list[tuple[int, float]]:
    """(steps done, median of the last `width` losses) up to the last step, at most one per pixel of the chart.

    A long run's chart is redrawn many times during training, so its cost must not grow with the square of the steps.
    """
    done, apart = len(losses), -(-len(losses) // (_RIGHT - _LEFT)) or 1
    return [(step, median(losses[max(0, step - width) : step])) for step in range(done, 0, -apart)][::-1]
