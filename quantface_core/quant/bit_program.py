"""An integer program that spends them where the picture needs them (DESIGN.md section 3.4).

min   sum_l  E_l * (weight_l[w] + activation_l[a]) + mu * P_l * (the same)
s.t.  budgets on average activation bits (by multiply-accumulates), average weight bits (by parameters),
      file size, bit operations; one (w, a) a layer; limits a module.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from numbers import Real
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import QuantFaceError, UsageError
from ..types import BITS, BitPlan, Bits, Budget, LayerSensitivity, Sensitivity, widths_in_words

if TYPE_CHECKING:  # asked for by those who allocate alone: a host that restores need not have it
    import pulp

_SECONDS = 20  # after which the best plan so far is taken
_GAP = 1e-3  # relative, to the best possible: the measurement is coarser
_MEGA = 1e6
_BUDGETS = ("activation_bits", "weight_bits", "megabytes", "operations")
_ROUNDING = 1e-9  # of sums over layers: a budget may be the least that there is

Widths = tuple[int, int]
"""As `Bits`; 0 in a choice that leaves the other to another choice."""


@dataclass(frozen=True)
class _Limit:
    """One budget."""

    most: float
    unit: str
    cost: Callable[[str, Widths], float]  # of a layer at widths: a sum over weight bits, activation bits, products
    fixed: float = 0.0  # what is spent whatever the widths


def solve(sensitivity: Sensitivity, budget: Budget) -> BitPlan:
    """The plan of least expected error within a budget.

    Raises UsageError for a budget that `check_budget` refuses or that cannot be met, naming the nearest that can;
    QuantFaceError without PuLP.
    """
    check_budget(budget)
    pulp = _pulp()
    layers = sensitivity.layers
    if not layers:
        raise UsageError("the sensitivities name no layer: measure them again")
    for module in budget.limits:
        if not any(_within(name, module) for name in layers):
            modules = sorted({".".join(name.split(".")[:2]) for name in layers})
            near = difflib.get_close_matches(module, [*modules, *layers], n=1, cutoff=0.4)
            hint = f", did you mean {near[0]}?" if near else f": give a layer, or such as {', '.join(modules[:5])}"
            raise UsageError(f"a limit names {module!r}, where no layer is{hint}")
    limits = _limits(sensitivity, budget)
    choices = [(name, options) for name, layer in layers.items() for options in _choices(name, layer, budget)]
    _check_feasible(limits, choices)
    problem = pulp.LpProblem("bits", pulp.LpMinimize)
    variable = getattr(problem, "add_variable", pulp.LpVariable)  # PuLP before 3.3 has the second alone
    chosen = []
    for i, (name, options) in enumerate(choices):
        own = [(name, widths, variable(f"x{i}_{widths[0]}_{widths[1]}", cat="Binary")) for widths in options]
        problem += pulp.lpSum(x for _, _, x in own) == 1
        chosen += own
    scale = sum(_loss(layer, (4, 4), budget) for layer in layers.values()) or 1.0
    problem += pulp.lpSum(_loss(layers[name], widths, budget) / scale * x for name, widths, x in chosen)
    for limit in limits:
        spent = pulp.lpSum(limit.cost(name, widths) * x for name, widths, x in chosen)
        problem += spent <= limit.most * (1 + _ROUNDING) - limit.fixed
    status = problem.solve(_solver(pulp))
    picked = [(name, widths) for name, widths, x in chosen if (x.value() or 0) > 0.5]
    if len(picked) != len(choices):
        raise QuantFaceError(f"the solver found no plan ({pulp.LpStatus[status]}): loosen the budget a little")
    plan = dict.fromkeys(layers, (0, 0))
    for name, (weight_bits, activation_bits) in picked:
        plan[name] = plan[name][0] + weight_bits, plan[name][1] + activation_bits
    return BitPlan(sensitivity.model, {name: Bits(*widths) for name, widths in plan.items()})


def check_budget(budget: Budget) -> None:
    """Raise UsageError for a budget that limits nothing, or naming the field that is not what `Budget` says."""
    if not isinstance(budget, Budget):
        raise UsageError(f"a budget is a Budget, such as Budget(weight_bits=4.5), got {budget!r}")
    given = {name: value for name in _BUDGETS if (value := getattr(budget, name)) is not None}
    if not given:
        raise UsageError("give at least one budget: activation bits, weight bits, megabytes or operations")
    for name, value in given.items():
        if not _is_number(value) or value <= 0:
            raise UsageError(f"{name}: a budget is a number above 0, or None, got {value!r}")
    if not _is_number(budget.perceptual_weight) or budget.perceptual_weight < 0:
        raise UsageError(f"perceptual_weight is a number of at least 0, got {budget.perceptual_weight!r}")
    if not isinstance(budget.limits, Mapping):
        raise UsageError(f'limits are (least, most) by module, such as {{"vae": (6, 8)}}, got {budget.limits!r}')
    for module, pair in budget.limits.items():
        if not isinstance(module, str):
            raise UsageError(f"a limit is of a module, by its name, got {module!r:.40}")
        whole = isinstance(pair, tuple | list) and len(pair) == 2 and all(type(bits) is int for bits in pair)
        if not whole or not BITS.start <= pair[0] <= pair[1] < BITS.stop:
            raise UsageError(f"the limit of {module!r} is (least, most) of {widths_in_words()}, got {pair!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _pulp() -> ModuleType:
    try:
        import pulp
    except ImportError as error:
        raise QuantFaceError("allocating bits needs PuLP: pip install pulp") from error
    return pulp


def _solver(pulp: ModuleType) -> pulp.LpSolver:
    """HiGHS where it is installed, else CBC: the system's, or the one that PuLP before 4 brings.

    Each gives the same plan every time it is done before its time is up.
    """
    options = {"msg": False, "timeLimit": _SECONDS, "gapRel": _GAP}
    bundled = getattr(pulp, "PULP_CBC_CMD", None)
    solvers = [pulp.HiGHS(**options), pulp.COIN_CMD(**options)]
    if bundled:  # by its path, for the class itself warns that it will go
        solvers.append(pulp.COIN_CMD(path=bundled.pulp_cbc_path, **options))
    for solver in solvers:
        if solver.available():
            return solver
    raise QuantFaceError("no solver for the integer program: pip install highspy")


def _choices(name: str, layer: LayerSensitivity, budget: Budget) -> list[list[Widths]]:
    """Of each list one is taken: weight and activation bits apart, where no budget multiplies them."""
    if layer.fixed is not None:
        return [[(layer.fixed, layer.fixed)]]
    low, high = BITS.start, BITS.stop - 1
    for module, (least, most) in budget.limits.items():
        if _within(name, module):
            low, high = max(low, least), min(high, most)
    if low > high:
        raise UsageError(f"the limits leave {name} no width: at least {low} bits and at most {high}")
    widths = range(low, high + 1)
    if budget.operations is not None:
        return [list(product(widths, widths))]
    return [[(bits, 0) for bits in widths], [(0, bits) for bits in widths]]


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _loss(layer: LayerSensitivity, widths: Widths, budget: Budget) -> float:
    share = layer.weight.get(widths[0], 0.0) + layer.activation.get(widths[1], 0.0)
    return share * (layer.error + budget.perceptual_weight * layer.perceptual)


def _limits(sensitivity: Sensitivity, budget: Budget) -> list[_Limit]:
    """Every budget that is set."""
    layers = sensitivity.layers
    operations = sum(layer.macs for layer in layers.values()) or 1
    parameters = sum(layer.parameters for layer in layers.values()) or 1
    rest = sensitivity.rest_bytes + sum(layer.overhead for layer in layers.values())
    limits = []
    if budget.activation_bits is not None:
        share = {name: layer.macs / operations for name, layer in layers.items()}
        limits.append(_Limit(budget.activation_bits, "activation bits", lambda n, w: share[n] * w[1]))
    if budget.weight_bits is not None:
        part = {name: layer.parameters / parameters for name, layer in layers.items()}
        limits.append(_Limit(budget.weight_bits, "weight bits", lambda n, w: part[n] * w[0]))
    if budget.megabytes is not None:
        size = {name: layer.parameters / 8 / _MEGA for name, layer in layers.items()}
        limits.append(_Limit(budget.megabytes, "MB", lambda n, w: size[n] * w[0], rest / _MEGA))
    if budget.operations is not None:
        each = {name: layer.macs / operations / 64 for name, layer in layers.items()}
        limits.append(_Limit(budget.operations, "of 8-bit operations", lambda n, w: each[n] * w[0] * w[1]))
    return limits


def _check_feasible(limits: list[_Limit], choices: list[tuple[str, list[Widths]]]) -> None:
    """The narrowest widths meet every budget at once or the budget that they miss cannot be met."""
    missed = []
    for limit in limits:
        least = limit.fixed + sum(min(limit.cost(name, widths) for widths in options) for name, options in choices)
        if least > limit.most * (1 + _ROUNDING):
            missed.append(f"{limit.most:g} {limit.unit} cannot be reached, the least is {_above(least)}")
    if missed:
        raise UsageError(f"{'; '.join(missed)}: ask for that, or loosen the limits")


def _above(value: float) -> str:
    """A number rounded up, so that asking for it works."""
    return f"{int(value * 1000 + 1) / 1000:.3f}"


def uniform(sensitivity: Sensitivity, weight_bits: int, activation_bits: int) -> BitPlan:
    """The plan without choices: the same widths everywhere but where they are fixed."""
    bits = Bits(weight_bits, activation_bits)
    plan = {n: Bits(x.fixed, x.fixed) if x.fixed else bits for n, x in sensitivity.layers.items()}
    return BitPlan(sensitivity.model, plan)


def summarize(plan: BitPlan, sensitivity: Sensitivity) -> dict[str, float]:
    """What a plan spends: average bits, MB, operations against 8 bits, and its expected error (a share of variance)."""
    everything = Budget(activation_bits=8.0, weight_bits=8.0, megabytes=0.0, operations=1.0)
    spent = {
        key: limit.fixed + sum(limit.cost(name, plan.layers[name]) for name in sensitivity.layers)
        for key, limit in zip(_BUDGETS, _limits(sensitivity, everything), strict=True)
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
    share = spent["error"] / max(even["error"], 1e-20)
    return f"{', '.join(pairs)}; expected error {share:.2f} of uniform 4 bits'"


def parse_limit(text: str) -> tuple[str, tuple[int, int]]:
    """`vae.decoder=6-8` -> (module, (least, most)); `=6` alone is both. Raises UsageError."""
    module, _, widths = (part.strip() for part in text.partition("="))
    low, _, high = widths.partition("-")
    try:
        least, most = int(low), int(high or low)
    except ValueError:
        least, most = 0, 0
    if not module or not BITS.start <= least <= most < BITS.stop:
        raise UsageError(f"{text!r} is not MODULE=LOW-HIGH with {widths_in_words()}, such as vae.decoder=6-8")
    return module, (least, most)
