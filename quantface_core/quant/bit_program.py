"""Choose bit widths with an integer program that spends bits where the output needs them (docs/method.md, section 5).

min   sum_l  E_l * (weight_l[w] + activation_l[a]) + mu * P_l * (the same)
s.t.  budgets on average activation bits (weighted by multiply-accumulates), average weight bits (weighted by
      parameters), file size, bit operations; one (w, a) per layer; limits per module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import QuantFaceError, UsageError, first_few, suggestion
from ..requirements import install_command
from ..types import BITS, BitPlan, Bits, Budget, LayerSensitivity, Sensitivity
from .budgets import QUANTITIES, check_budget

if TYPE_CHECKING:  # needed only to allocate: a host that restores can do without it
    import pulp

_SECONDS = 20  # after which the best plan so far is used
_GAP = 1e-3  # optimality gap, relative: the measurements are coarser
_MEGA = 1e6
_ROUNDING = 1e-9  # relative, of sums over layers: a budget may be exactly the least that can be met

Widths = tuple[int, int]
"""(weight, activation) bits, as `Bits`; 0 = decided by the layer's other choice."""

Choice = tuple[str, list[Widths]]
"""A layer, and the options of which it gets one."""


@dataclass(frozen=True)
class _Limit:
    """One budget: a bound on a sum over layers."""

    most: float
    unit: str
    cost: Callable[[str, Widths], float]  # of a layer: linear in weight bits, activation bits or their product
    fixed: float = 0.0  # spent whatever the widths


def solve_plan(sensitivity: Sensitivity, budget: Budget) -> BitPlan:
    """Return the plan with the least expected error within a budget.

    Raises UsageError for a budget that `check_budget` rejects or that cannot be met, naming the least that can;
    QuantFaceError without PuLP or a solver, or when the solver finds no plan.
    """
    check_budget(budget)
    if not isinstance(sensitivity, Sensitivity):
        raise UsageError(f"give a Sensitivity, as measure_sensitivity returns it, got a {type(sensitivity).__name__}")
    pulp = _pulp()
    layers = sensitivity.layers
    if not layers:
        raise UsageError("the sensitivities contain no layers: measure them again")
    _check_modules(budget, layers)
    limits = _limits(sensitivity, budget)
    choices = [(name, options) for name, layer in layers.items() for options in _choices(name, layer, budget)]
    _check_feasible(limits, choices)
    found = [(name, options[0]) for name, options in choices if len(options) == 1]
    spent = [sum(limit.cost(name, widths) for name, widths in found) for limit in limits]
    left = [replace(limit, fixed=limit.fixed + cost) for limit, cost in zip(limits, spent, strict=True)]
    for part in _parts([choice for choice in choices if len(choice[1]) > 1]):
        found += _solve(pulp, part, left, layers, budget)
    plan = dict.fromkeys(layers, (0, 0))
    for name, (weight_bits, activation_bits) in found:
        plan[name] = plan[name][0] + weight_bits, plan[name][1] + activation_bits
    return BitPlan(sensitivity.model, {name: Bits(*widths) for name, widths in plan.items()})


def _check_modules(budget: Budget, layers: Mapping[str, LayerSensitivity]) -> None:
    """Raise UsageError for a limit on a module without layers."""
    for module in budget.limits:
        if not any(_within(name, module) for name in layers):
            modules = sorted({".".join(name.split(".")[:2]) for name in layers})
            hint = suggestion(module, [*modules, *layers]) or f": layers are in {first_few(modules, 5)}"
            raise UsageError(f"a limit names {module!r}, which contains no layers{hint}")


def _parts(choices: list[Choice]) -> list[list[Choice]]:
    """What no budget joins, apart: weights and activations, unless one multiplies them.

    The solver takes milliseconds for each, and may take more than its time for both together.
    """
    parts: dict[tuple[bool, bool], list[Choice]] = {}
    for name, options in choices:
        weight_bits, activation_bits = options[0]
        parts.setdefault((weight_bits > 0, activation_bits > 0), []).append((name, options))
    return list(parts.values())


def _solve(
    pulp: ModuleType,
    choices: list[Choice],
    limits: list[_Limit],
    layers: Mapping[str, LayerSensitivity],
    budget: Budget,
) -> list[tuple[str, Widths]]:
    """One option of each choice, with the least loss in all. Raises QuantFaceError when the solver finds none."""
    problem = pulp.LpProblem("bits", pulp.LpMinimize)
    variable = getattr(problem, "add_variable", pulp.LpVariable)  # PuLP before 3.3 has only LpVariable
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
    solver = _solver(pulp)
    try:
        with TemporaryDirectory() as folder:
            solver.tmpDir = folder  # where PuLP leaves its files if the solver fails
            ended = problem.solve(solver)
    except pulp.PulpSolverError as error:  # it does not run here, or was ended
        remedy = install_command("highspy")
        raise QuantFaceError(f"the solver of the integer program failed ({error}): {remedy}") from error
    picked = [(name, widths) for name, widths, x in chosen if (x.value() or 0) > 0.5]
    if len(picked) != len(choices):
        how = ended.status.name if hasattr(ended, "status") else pulp.LpStatus[ended]  # a number before PuLP 4
        raise QuantFaceError(f"the solver found no plan ({how}): loosen the budget a little")
    return picked


def _pulp() -> ModuleType:
    try:
        import pulp
    except ImportError as error:
        raise QuantFaceError(f"allocating bits needs PuLP: {install_command('pulp')}") from error
    return pulp


def _solver(pulp: ModuleType) -> pulp.LpSolver:
    """HiGHS if it is installed, else CBC: the system's, or the one bundled with PuLP before 4.

    Each returns the same plan every time, as long as it finishes within the time limit.
    """
    options = {"msg": False, "timeLimit": _SECONDS, "gapRel": _GAP}
    bundled = getattr(pulp, "PULP_CBC_CMD", None)
    solvers = [pulp.HiGHS(**options), pulp.COIN_CMD(**options)]
    if bundled:  # by its path: the class itself warns of its removal
        solvers.append(pulp.COIN_CMD(path=bundled.pulp_cbc_path, **options))
    for solver in solvers:
        if solver.available():
            return solver
    raise QuantFaceError(f"no solver for the integer program: {install_command('highspy')}")


def _choices(name: str, layer: LayerSensitivity, budget: Budget) -> list[list[Widths]]:
    """Lists of options, one taken from each: weight and activation bits separately, unless a budget multiplies them."""
    if layer.fixed is not None:
        return [[(layer.fixed, layer.fixed)]]
    low, high = BITS.start, BITS.stop - 1
    for module, (least, most) in budget.limits.items():
        if _within(name, module):
            low, high = max(low, least), min(high, most)
    if low > high:
        raise UsageError(f"the limits leave no width for {name}: at least {low} bits and at most {high}")
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
    """The constraints of all budgets that are set."""
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


def _check_feasible(limits: list[_Limit], choices: list[Choice]) -> None:
    """Raise UsageError for budgets that the narrowest widths exceed: these cost the least in every budget at once."""
    missed = []
    for limit in limits:
        least = limit.fixed + sum(min(limit.cost(name, widths) for widths in options) for name, options in choices)
        if least > limit.most * (1 + _ROUNDING):
            missed.append(f"{limit.most:g} {limit.unit} cannot be reached, the least is {_above(least)}")
    if missed:
        raise UsageError(f"{'; '.join(missed)}: raise the budget to that, or loosen the limits")


def _above(value: float) -> str:
    """A value rounded up, as text, so that a budget of it can be met."""
    return f"{math.ceil(value * (1 - _ROUNDING) * 1000) / 1000:.3f}"


def uniform(sensitivity: Sensitivity, weight_bits: int, activation_bits: int) -> BitPlan:
    """The plan with the same widths everywhere, except where they are fixed."""
    bits = Bits(weight_bits, activation_bits)
    plan = {n: Bits(x.fixed, x.fixed) if x.fixed else bits for n, x in sensitivity.layers.items()}
    return BitPlan(sensitivity.model, plan)


def summarize_plan(plan: BitPlan, sensitivity: Sensitivity) -> dict[str, float]:
    """What a plan spends on each budget, and its expected error, by the fields of `Budget` and "error".

    Average bits, MB, bit operations relative to 8 bits everywhere, and the error as a share of the output's variance.
    """
    everything = Budget(activation_bits=8.0, weight_bits=8.0, megabytes=0.0, operations=1.0)
    spent = {
        key: limit.fixed + sum(limit.cost(name, plan.layers[name]) for name in sensitivity.layers)
        for key, limit in zip(QUANTITIES, _limits(sensitivity, everything), strict=True)
    }
    plain = Budget(perceptual_weight=0.0)
    spent["error"] = sum(_loss(layer, plan.layers[n], plain) for n, layer in sensitivity.layers.items())
    return spent


def describe_plan(plan: BitPlan, sensitivity: Sensitivity) -> str:
    """One line: what a plan spends, beside uniform 4 bits."""
    spent, even = summarize_plan(plan, sensitivity), summarize_plan(uniform(sensitivity, 4, 4), sensitivity)
    pairs = [
        f"{spent[key]:.2f} {unit} (uniform 4 bits: {even[key]:.2f})"
        for key, unit in (("activation_bits", "activation bits"), ("weight_bits", "weight bits"), ("megabytes", "MB"))
    ]
    share = spent["error"] / max(even["error"], 1e-20)
    return f"{', '.join(pairs)}; expected error {share:.2f} times that of uniform 4 bits"
