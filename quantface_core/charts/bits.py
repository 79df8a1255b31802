"""Bits per layer along the network, with the sensitivities that led to them behind."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from ..errors import UsageError
from ..types import BITS, BitPlan, LayerSensitivity, Sensitivity
from .canvas import BLUE, PALE_BLUE, PALE_VERMILION, SOFT, VERMILION, Array, Canvas
from .network import along_network, draw_parts
from .plot import Scale, draw_frame, log_scale

_WIDTH, _HEIGHT = 1400, 700
_LEFT, _RIGHT = 80, 1310
_PANELS = ((96, 356), (404, 664))  # top, bottom
_PROBE = 4  # width at which the bars show sensitivities


def draw_bits(plan: BitPlan, sensitivity: Sensitivity) -> Array:
    """Weight bits above, activation bits below, uint8 [700, 1400, 3].

    Raises UsageError if plan and sensitivities are of different models.
    """
    names = along_network(name for name in sensitivity.layers if name in plan.layers)
    strangers = sorted(set(plan.layers) - set(sensitivity.layers))
    if strangers or not names:
        offender = f" ({strangers[0]})" if strangers else ""
        raise UsageError(f"plan and sensitivities are of different models{offender}: measure this model")
    layers = {name: sensitivity.layers[name] for name in names}
    canvas = Canvas(_WIDTH, _HEIGHT)
    canvas.text(_LEFT, 16, f"Bits per layer, {plan.model}", size=20)
    canvas.text(_LEFT, 46, _averages(plan, layers), size=15, color=SOFT)
    errors = {
        "weights": [layer.error * layer.weight.get(_PROBE, 0) for layer in layers.values()],
        "activations": [layer.error * layer.activation.get(_PROBE, 0) for layer in layers.values()],
    }
    # One scale for both panels, so that their bars can be compared.
    reach = [value for values in errors.values() for value in values]
    looks = ((BLUE, PALE_BLUE), (VERMILION, PALE_VERMILION))
    for index, (kind, (top, bottom)) in enumerate(zip(errors, _PANELS, strict=True)):
        x = Scale(0, len(names), _LEFT, _RIGHT)
        y = Scale(BITS.start - 0.6, BITS.stop - 0.5, bottom, top)
        behind = log_scale(reach, bottom, top)
        draw_parts(canvas, names, x, top, bottom)
        _draw_errors(canvas, errors[kind], x, behind, looks[index][1])
        draw_frame(canvas, x, y, f"bits of {kind}", behind, f"error at {_PROBE} bits")
        _draw_steps(canvas, [plan.layers[n][index] for n in names], layers, x, y, looks[index][0])
    canvas.text(_LEFT, _HEIGHT - 22, f"{len(names)} layers in data-flow order", color=SOFT)
    legend = f"lines: bits (gray: fixed)    bars: output error with this layer alone at {_PROBE} bits"
    canvas.text(_RIGHT, _HEIGHT - 22, legend, anchor="ra", color=SOFT)
    return canvas.finish()


def _averages(plan: BitPlan, layers: Mapping[str, LayerSensitivity]) -> str:
    parameters = sum(layer.parameters for layer in layers.values()) or 1
    operations = sum(layer.macs for layer in layers.values()) or 1
    weight = sum(plan.layers[n][0] * layer.parameters for n, layer in layers.items()) / parameters
    activation = sum(plan.layers[n][1] * layer.macs for n, layer in layers.items()) / operations
    return f"on average {weight:.2f} bits per weight, {activation:.2f} bits per activation (by multiply-accumulates)"


def _draw_errors(canvas: Canvas, errors: list[float], x: Scale, scale: Scale, color: str) -> None:
    gap = min(1.0, 0.15 * (x(1) - x(0)))
    for i, error in enumerate(errors):
        if error > 0:
            canvas.box(x(i) + gap / 2, scale(error), x(i + 1) - gap / 2, scale.start, color)


def _draw_steps(
    canvas: Canvas, bits: list[int], layers: Mapping[str, LayerSensitivity], x: Scale, y: Scale, color: str
) -> None:
    for i, (now, after) in enumerate(pairwise(bits)):
        canvas.line([(x(i + 1), y(now)), (x(i + 1), y(after))], color, 0.5)
    for i, (width, layer) in enumerate(zip(bits, layers.values(), strict=True)):
        canvas.box(x(i), y(width) - 2, x(i + 1), y(width) + 2, color if layer.fixed is None else SOFT)
