"""A plot on a canvas: a frame with linear or logarithmic scales, their ticks and names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .canvas import FAINT, INK, SOFT, Canvas

_LEAST = 1e-12  # on a logarithmic scale, anything up to this counts as zero
_DECADES = 8  # of a logarithmic scale, at most


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` to pixels from `start` to `stop`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; values beyond an end are placed at that end, NaN at the low one."""
        if math.isnan(value):
            return self.start
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self.floor)))
        share = (at - low) / (high - low)
        return self.start + (self.stop - self.start) * min(max(share, 0.0), 1.0)

    @property
    def floor(self) -> float:
        """The least value that can be placed: `low` on a logarithmic scale, which has no zero."""
        return self.low if self.log else -math.inf

    def ticks(self, most: int = 7) -> list[tuple[float, str]]:
        """Round values between the ends, about `most` of them at most, with their labels."""
        return _decades(self.low, self.high) if self.log else _rounds(self.low, self.high, most)


def log_scale(values: Iterable[float], start: float, stop: float) -> Scale:
    """A logarithmic scale for all values above zero, reaching at most eight decades below the largest."""
    kept = [v for v in values if v > _LEAST and math.isfinite(v)] or [1.0]
    high = max(kept)
    low = max(min(kept), high / 10**_DECADES)
    margin = max((high / low) ** 0.06 * 1.15, 2.0 if high < 3 * low else 1.0)
    return Scale(low / margin, high * margin, start, stop, log=True)


def linear_scale(values: Sequence[float], start: float, stop: float) -> Scale:
    """A linear scale for all finite values, spanning at least 1."""
    kept = [v for v in values if math.isfinite(v)] or [0.0]
    low, high = min(kept), max(kept)
    margin = max(0.08 * (high - low), (1 - (high - low)) / 2)
    return Scale(low - margin, high + margin, start, stop)


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten; where fewer than three fit, also values between them."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9)):
        found = [(s * 10.0**e, f"{s}e{e}" if not -3 < e < 3 else f"{s * 10.0**e:g}") for e in exponents for s in steps]
        found = [(value, label) for value, label in found if low <= value <= high]
        if len(found) >= 3:
            break
    return found


def _rounds(low: float, high: float, most: int) -> list[tuple[float, str]]:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [(i * step, f"{i * step:.10g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def draw_frame(
    canvas: Canvas, x: Scale, y: Scale, name: str = "", right: Scale | None = None, right_name: str = ""
) -> None:
    """Draw the grid, the ticks and names of the vertical scales, and the baseline."""
    for value, label in y.ticks():
        canvas.line([(x.start, y(value)), (x.stop, y(value))], FAINT)
        canvas.text(x.start - 8, y(value), label, anchor="rm", color=SOFT)
    if right:
        for value, label in right.ticks():
            canvas.line([(x.stop, right(value)), (x.stop + 4, right(value))], SOFT)
            canvas.text(x.stop + 8, right(value), label, anchor="lm", color=SOFT)
    canvas.line([(x.start, y.start), (x.stop, y.start)], SOFT)
    middle = (y.start + y.stop) / 2
    for at, text in ((x.start - 58, name), (x.stop + 58, right_name)):
        if text:
            canvas.text(at, middle, text, anchor="mm", color=INK, up=True)
