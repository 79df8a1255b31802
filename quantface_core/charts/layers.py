"""The effect of balancing: every layer's output error before and after, along the network."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ..errors import UsageError
from ..types import LayerReport
from .canvas import BLUE, FAINT, PALE_VERMILION, SOFT, VERMILION, Array, Canvas
from .network import along_network, draw_parts
from .plot import Scale, draw_frame, log_scale

_WIDTH, _HEIGHT = 1400, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 1370, 120, 476
_LEAST = 1e-12


def draw_layers(reports: Sequence[LayerReport]) -> Array:
    """Mean squared error over mean square, log scale, uint8 [520, 1400, 3]. Raises UsageError without reports."""
    if not reports:
        raise UsageError("no layer was quantized: there is nothing to draw")
    by_name = {report.name: report for report in reports}
    names = along_network(by_name)
    pairs = [(by_name[n].error_before, by_name[n].error_after) for n in names]
    gain = median(before / max(after, _LEAST) for before, after in pairs)
    canvas = Canvas(_WIDTH, _HEIGHT)
    canvas.text(_LEFT, 16, f"Output errors of {len(names)} layers, the median {gain:.1f} times smaller", size=20)
    x = Scale(0, len(names), _LEFT, _RIGHT)
    y = log_scale([error for pair in pairs for error in pair], _BOTTOM, _TOP)
    draw_parts(canvas, names, x, _TOP, _BOTTOM)
    draw_frame(canvas, x, y, "relative squared error")
    radius = min(4.5, max(1.5, 0.35 * (x(1) - x(0))))
    for i, (before, after) in enumerate(pairs):
        canvas.line([(x(i + 0.5), y(before)), (x(i + 0.5), y(after))], FAINT if after <= before else VERMILION)
    for i, (before, after) in enumerate(pairs):
        canvas.dot(x(i + 0.5), y(before), radius, VERMILION, fill=PALE_VERMILION)
        canvas.dot(x(i + 0.5), y(after), radius, BLUE)
    canvas.dot(_LEFT + 5, 62, 4.5, VERMILION, fill=PALE_VERMILION)
    canvas.text(_LEFT + 16, 62, "MaxMin rounding", size=15, anchor="lm", color=SOFT)
    canvas.dot(_LEFT + 165, 62, 4.5, BLUE)
    canvas.text(_LEFT + 176, 62, "balanced, with its low-rank branch", size=15, anchor="lm", color=SOFT)
    canvas.text((_LEFT + _RIGHT) / 2, _HEIGHT - 30, "layers in data-flow order", anchor="ma", color=SOFT)
    return canvas.finish()
