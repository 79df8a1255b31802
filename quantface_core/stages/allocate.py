"""Allocate bits: an integer program that spends them where the picture needs them (DESIGN.md section 3.4).

min   sum_l  E_l * (weight_l[w] + activation_l[a]) + mu * P_l * (the same)
s.t.  budgets on average activation bits (by multiply-accumulates), average weight bits (by parameters),
      file size, bit operations; one (w, a) a layer; limits a room.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pulp

from ..errors import QuantFaceError, UsageError
from ..kernels.quantize import BITS
from ..types import BitPlan, Budget, LayerSensitivity, Sensitivity

_SECONDS = 20  # after which the best plan so far is taken
_GAP = 1e-3  # relative, to the best possible: the measurement is coarser
_MEGA = 1e6

Widths = tuple[int, int]
"""(weight bits, activation bits)."""


def allocate(sensitivity: Sensitivity, budget: Budget) -> BitPlan:
    """The plan of least expected error within a budget.

    Raises UsageError when the budget cannot be met, naming the nearest that can.
    """
    choices = {name: _choices(name, layer, budget) for name, layer in sensitivity.layers.items()}
    if not choices:
        raise UsageError("the sensitivities name no layer: measure them again")
    _check_feasible(sensitivity, budget, choices)
    problem = pulp.LpProblem("bits", pulp.LpMinimize)
    chosen = {
        (name, widths): pulp.LpVariable(f"x{i}_{widths[0]}_{widths[1]}", cat="Binary")
        for i, (name, options) in enumerate(choices.items())
        for widths in options
    }
    scale = sum(_loss(layer, (4, 4), budget) for layer in sensitivity.layers.values()) or 1.0
    problem += pulp.lpSum(
        _loss(sensitivity.layers[name], widths, budget) / scale * x for (name, widths), x in chosen.items()
    )
    for name, options in choices.items():
        problem += pulp.lpSum(chosen[name, widths] for widths in options) == 1
    for limit, costs, _ in _limits(sensitivity, budget):
        problem += pulp.lpSum(costs(name, widths) * x for (name, widths), x in chosen.items()) <= limit
    status = problem.solve(_solver())
    picked = {name: widths for (name, widths), x in chosen.items() if (x.value() or 0) > 0.5}
    if len(picked) != len(choices):
        raise QuantFaceError(f"the solver found no plan ({pulp.LpStatus[status]}): loosen the budget a little")
    return BitPlan(sensitivity.model, {name: picked[name] for name in choices})


def _solver() -> pulp.LpSolver:
    """HiGHS where it is installed, else the CBC that PuLP brings; both give the same plan each time."""
    for name in ("HiGHS", "PULP_CBC_CMD", "COIN_CMD"):
        if name in pulp.listSolvers(onlyAvailable=True):
            return pulp.getSolver(name, msg=False, timeLimit=_SECONDS, gapRel=_GAP)
    raise QuantFaceError("no solver: pip install highspy")


def _choices(name: str, layer: LayerSensitivity, budget: Budget) -> list[Widths]:
    if layer.fixed is not None:
        return [(layer.fixed, layer.fixed)]
    low, high = BITS.start, BITS.stop - 1
    for room, (least, most) in budget.limits.items():
        if name == room or name.startswith(f"{room}."):
            low, high = max(low, least), min(high, most)
    if low > high:
        raise UsageError(f"the limits leave {name} no width between {low} and {high}")
    widths = range(low, high + 1)
    return list(product(widths, widths))


def _loss(layer: LayerSensitivity, widths: Widths, budget: Budget) -> float:
    share = layer.weight[widths[0]] + layer.activation[widths[1]]
    return share * (layer.error + budget.perceptual_weight * layer.perceptual)


def _limits(sensitivity: Sensitivity, budget: Budget) -> list:
    """(limit, cost of a layer at widths, what it is called) of every budget that is set."""
    layers = sensitivity.layers
    operations = sum(layer.multiplications for layer in layers.values())
    parameters = sum(layer.parameters for layer in layers.values())
    rest = sensitivity.rest_bytes + sum(layer.overhead for layer in layers.values())
    limits = []
    if budget.activation_bits is not None:
        share = {name: layer.multiplications / operations for name, layer in layers.items()}
        limits.append((budget.activation_bits, lambda n, w: share[n] * w[1], "activation bits"))
    if budget.weight_bits is not None:
        part = {name: layer.parameters / parameters for name, layer in layers.items()}
        limits.append((budget.weight_bits, lambda n, w: part[n] * w[0], "weight bits"))
    if budget.megabytes is not None:
        even = rest / len(layers)
        size = {name: layer.parameters / 8 for name, layer in layers.items()}
        limits.append((budget.megabytes, lambda n, w: (size[n] * w[0] + even) / _MEGA, "MB"))
    if budget.operations is not None:
        each = {name: layer.multiplications / operations / 64 for name, layer in layers.items()}
        limits.append((budget.operations, lambda n, w: each[n] * w[0] * w[1], "of 8-bit operations"))
    if not limits:
        raise UsageError("give at least one budget: activation bits, weight bits, megabytes or operations")
    return limits


def _check_feasible(sensitivity: Sensitivity, budget: Budget, choices: Mapping[str, list[Widths]]) -> None:
    """The narrowest widths meet every budget at once or the budget that they miss cannot be met."""
    missed = []
    for limit, cost, unit in _limits(sensitivity, budget):
        least = sum(min(cost(name, widths) for widths in options) for name, options in choices.items())
        if least > limit:
            missed.append(f"{limit:g} {unit} cannot be reached, the least is {_above(least)}")
    if missed:
        raise UsageError(f"{'; '.join(missed)}: ask for that, or loosen the limits")


def _above(value: float) -> str:
    """A number rounded up, so that asking for it works."""
    return f"{int(value * 1000 + 1) / 1000:.3f}"


def uniform(sensitivity: Sensitivity, weight_bits: int, activation_bits: int) -> BitPlan:
    """The plan without choices: the same widths everywhere but where they are fixed."""
    widths = (weight_bits, activation_bits)
    return BitPlan(
        sensitivity.model, {n: (x.fixed, x.fixed) if x.fixed else widths for n, x in sensitivity.layers.items()}
    )


def summarize(plan: BitPlan, sensitivity: Sensitivity) -> dict[str, float]:
    """What a plan spends: average bits, MB, operations against 8 bits, and its expected error (a share of variance)."""
    everything = Budget(activation_bits=8.0, weight_bits=8.0, megabytes=0.0, operations=1.0)
    names = ("activation_bits", "weight_bits", "megabytes", "operations")
    spent = {
        key: sum(cost(name, plan.layers[name]) for name in sensitivity.layers)
        for key, (_, cost, _) in zip(names, _limits(sensitivity, everything), strict=True)
    }
    plain = Budget(perceptual_weight=0.0)
    spent["error"] = sum(_loss(layer, plan.layers[n], plain) for n, layer in sensitivity.layers.items())
    return spent


def describe(plan: BitPlan, sensitivity: Sensitivity) -> str:
    """One line: what a plan spends, beside the same of uniform 4 bits."""
    spent, even = summarize(plan, sensitivity), summarize(uniform(sensitivity, 4, 4), sensitivity)
    pairs = [
        f"{spent[key]:.2f} {unit} (uniform 4 bits: {even[key]:.2f})"
        for key, unit in (("activation_bits", "activation bits"), ("weight_bits", "weight bits"), ("megabytes", "MB"))
    ]
    return f"{', '.join(pairs)}; expected error {spent['error'] / max(even['error'], 1e-20):.2f} of it"


def parse_limit(text: str) -> tuple[str, tuple[int, int]]:
    """`vae.decoder=6-8` -> (room, (least, most)); `=6` alone is both. Raises UsageError."""
    room, _, widths = text.strip().partition("=")
    low, _, high = widths.partition("-")
    try:
        least, most = int(low), int(high or low)
    except ValueError:
        least, most = 0, 0
    if not room or not BITS.start <= least <= most < BITS.stop:
        raise UsageError(f"{text!r} is not ROOM=LOW-HIGH with 3 to 8 bits, such as vae.decoder=6-8")
    return room, (least, most)
