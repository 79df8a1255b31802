"""The integer program: budgets hold, bits go where they matter, refusals name the nearest."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantface_core.errors import QuantFaceError, UsageError
from quantface_core.quant import bit_program
from quantface_core.quant.bit_program import solve_plan, summarize_plan, uniform
from quantface_core.types import BITS, BitPlan, Budget, LayerSensitivity, Sensitivity


def layer(error: float, macs: int = 1000, parameters: int = 100, fixed: int | None = None):
    falling = {bits: 0.5 * 4.0 ** (4 - bits) for bits in BITS}
    return LayerSensitivity(macs, parameters, 10, fixed, falling, falling, error, error / 2)


def network(errors: list[float], **kind: int) -> Sensitivity:
    layers = {f"unet.layer{i}": layer(error, **kind) for i, error in enumerate(errors)}
    return Sensitivity("tiny", "ms_ssim", 1000, {"unet.conv_in": layer(0.1, 10, 1, fixed=8), **layers})


def unlike(errors: list[float]) -> Sensitivity:
    """Layers of many sizes."""
    even = network(errors)
    sizes = {
        name: replace(layer, macs=1000 + 977 * i % 5003, parameters=100 + 331 * i % 1009)
        for i, (name, layer) in enumerate(even.layers.items())
    }
    return replace(even, layers=sizes)


NETWORK = network([0.001, 0.002, 0.5, 0.004])


@settings(max_examples=10, deadline=None)
@given(
    errors=st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=8),
    activation=st.floats(4.2, 8),
    weight=st.floats(4.2, 8),
)
def test_budgets_hold_and_no_uniform_plan_within_them_is_better(
    errors: list[float], activation: float, weight: float
) -> None:
    sensitivity = network(errors)
    plan = solve_plan(sensitivity, Budget(activation, weight, perceptual_weight=0))
    spent = summarize_plan(plan, sensitivity)
    assert spent["activation_bits"] <= activation + 1e-6
    assert spent["weight_bits"] <= weight + 1e-6
    even = summarize_plan(uniform(sensitivity, 4, 4), sensitivity)
    if even["activation_bits"] <= activation and even["weight_bits"] <= weight:
        assert spent["error"] <= even["error"] * 1.01


def test_bits_go_to_the_layer_that_needs_them() -> None:
    plan = solve_plan(NETWORK, Budget(activation_bits=4.9, weight_bits=4.9))
    assert plan.layers["unet.layer2"] > max(plan.layers[f"unet.layer{i}"] for i in (0, 1, 3))
    assert plan.layers["unet.conv_in"] == (8, 8)


@pytest.mark.parametrize("needy", [0, 1])
def test_bits_go_to_the_layer_that_looks_need_them(needy: int) -> None:
    even = network([0.1, 0.1])
    layers = {**even.layers, f"unet.layer{needy}": replace(even.layers["unet.layer0"], perceptual=1.0)}
    plan = solve_plan(replace(even, layers=layers), Budget(weight_bits=5))
    assert plan.layers[f"unet.layer{needy}"].weight > plan.layers[f"unet.layer{1 - needy}"].weight


def test_what_a_plan_costs_is_what_the_budgets_say() -> None:
    """Averages by multiplications and by weights; a file with all that is in it."""
    sensitivity = unlike([0.03, 0.4])
    layers, plan = sensitivity.layers, uniform(sensitivity, 4, 6)
    assert plan.layers["unet.conv_in"] == (8, 8)
    macs, parameters = (sum(getattr(x, name) for x in layers.values()) for name in ("macs", "parameters"))
    bits = {name: plan.layers[name] for name in layers}
    stored = sum(x.parameters * bits[name].weight / 8 + x.overhead for name, x in layers.items())
    spent = summarize_plan(plan, sensitivity)
    assert spent["activation_bits"] == pytest.approx(sum(x.macs * bits[n].activation for n, x in layers.items()) / macs)
    assert spent["weight_bits"] == pytest.approx(
        sum(x.parameters * bits[n].weight for n, x in layers.items()) / parameters
    )
    assert spent["megabytes"] == pytest.approx((sensitivity.rest_bytes + stored) / 1e6)
    shares = {n: x.weight[bits[n].weight] + x.activation[bits[n].activation] for n, x in layers.items()}
    assert spent["error"] == pytest.approx(sum(x.error * shares[n] for n, x in layers.items()))


def test_sizes_and_operations_are_budgets_too() -> None:
    even = summarize_plan(uniform(NETWORK, 4, 4), NETWORK)
    for key in ("megabytes", "operations"):
        plan = solve_plan(NETWORK, Budget(**{key: even[key]}))
        assert summarize_plan(plan, NETWORK)[key] <= even[key] * (1 + 1e-9)


def test_rooms_keep_their_limits() -> None:
    plan = solve_plan(NETWORK, Budget(activation_bits=7, limits={"unet.layer0": (6, 8), "unet": (3, 7)}))
    assert min(plan.layers["unet.layer0"]) >= 6
    assert max(bits for name, pair in plan.layers.items() if "conv_in" not in name for bits in pair) <= 7


@pytest.mark.parametrize(("key", "least"), [("activation_bits", BITS.start + 0.01), ("megabytes", 1e-6)])
def test_an_impossible_budget_is_answered_with_the_nearest(key: str, least: float) -> None:
    with pytest.raises(UsageError, match="the least is") as refused:
        solve_plan(NETWORK, Budget(**{key: least}))
    nearest = float(re.search(r"least is ([\d.]+)", str(refused.value))[1])
    assert summarize_plan(solve_plan(NETWORK, Budget(**{key: nearest})), NETWORK)[key] <= nearest


def test_the_nearest_of_free_layers_is_the_least_width() -> None:
    """Though shares of a network's layers may sum to a little more than one."""
    free = replace(NETWORK, layers={name: replace(layer, fixed=None) for name, layer in NETWORK.layers.items()})
    for key in ("activation_bits", "weight_bits"):
        with pytest.raises(UsageError, match=rf"the least is {BITS.start}\.000:"):
            solve_plan(free, Budget(**{key: 1}))


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(), "at least one budget"),
        (Budget(activation_bits=5, limits={"unet.layer0": (3, 4), "unet": (6, 8)}), "no width"),
        (Budget(activation_bits=5, limits={"unet.layr0": (3, 4)}), "did you mean unet.layer0"),
    ],
)
def test_what_cannot_be_solved_is_refused(budget: Budget, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        solve_plan(NETWORK, budget)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(activation_bits=4.6, weight_bits=5.2),
        Budget(activation_bits=5.3, megabytes=0.0018),
        Budget(operations=0.4),
        Budget(weight_bits=4.5, operations=0.3),
    ],
    ids=["averages", "size", "operations", "operations and weights"],
)
def test_no_plan_at_all_is_better(budget: Budget) -> None:
    sensitivity = unlike([0.03, 0.4])
    least, names = float("inf"), [name for name in sensitivity.layers if name != "unet.conv_in"]
    for widths in product(product(BITS, BITS), repeat=len(names)):
        spent = summarize_plan(
            BitPlan("tiny", {"unet.conv_in": (8, 8), **dict(zip(names, widths, strict=True))}), sensitivity
        )
        if all(getattr(budget, k) is None or spent[k] <= getattr(budget, k) for k in spent if k != "error"):
            least = min(least, spent["error"])
    found = summarize_plan(solve_plan(sensitivity, replace(budget, perceptual_weight=0)), sensitivity)["error"]
    assert found == pytest.approx(least, rel=2e-3)  # the solver may stop a thousandth short


@pytest.mark.parametrize("budget", [Budget(3.98, 4.2), Budget(operations=0.25)], ids=["averages", "operations"])
def test_a_full_size_network_is_solved_to_the_end_and_always_the_same(
    budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not to the best plan that there is when the time is up, which depends on the machine."""
    import pulp

    optimal, run = list[bool](), pulp.LpProblem.solve

    def noting(problem: pulp.LpProblem, *given: object) -> Any:
        ended = run(problem, *given)
        before_4 = isinstance(ended, int)  # where a status does not tell the time limit
        optimal.append(problem.sol_status == pulp.LpSolutionOptimal if before_4 else ended.status.name == "Optimal")
        return ended

    monkeypatch.setattr(pulp.LpProblem, "solve", noting)
    sensitivity = unlike([1e-4 * 1.3 ** (i % 23) for i in range(400)])
    assert solve_plan(sensitivity, budget) == solve_plan(sensitivity, budget)
    assert set(optimal) == {True}


@pytest.mark.parametrize(
    ("ended", "how"), [(-1, "Infeasible"), (SimpleNamespace(status=SimpleNamespace(name="TimeLimit")), "TimeLimit")]
)
def test_no_plan_is_an_error_by_what_any_pulp_returns(ended: Any, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pulp

    monkeypatch.setattr(pulp.LpProblem, "solve", lambda problem, solver: ended)
    monkeypatch.setattr(pulp, "LpStatus", {-1: "Infeasible"}, raising=False)  # gone from PuLP 4
    with pytest.raises(QuantFaceError, match=rf"found no plan \({how}\)"):
        solve_plan(unlike([1e-4, 2e-4]), Budget(4.0, 4.0))


def test_nothing_it_calls_will_go_soon(recwarn: pytest.WarningsRecorder) -> None:
    solve_plan(NETWORK, Budget(activation_bits=5))
    assert not [warning for warning in recwarn if "PuLP" in str(warning.message)]


def test_without_pulp_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pulp", None)
    with pytest.raises(QuantFaceError, match="pip install pulp"):
        solve_plan(NETWORK, Budget(activation_bits=6))


def test_layers_that_cost_nothing_are_solved() -> None:
    layers = {name: replace(layer, macs=0, parameters=0) for name, layer in NETWORK.layers.items()}
    for budget in (Budget(activation_bits=4), Budget(weight_bits=4), Budget(operations=0.5)):
        assert set(solve_plan(replace(NETWORK, layers=layers), budget).layers) == set(layers)


def test_a_solver_that_does_not_run_is_told_and_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As CBC's program, built for other processors."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # read anew
    broken = shutil.which("false")
    monkeypatch.setattr(bit_program, "_solver", lambda pulp: pulp.COIN_CMD(path=broken, msg=False))
    with pytest.raises(QuantFaceError, match=r"solver of the integer program failed .*: \S+ -m pip install highspy"):
        solve_plan(NETWORK, Budget(weight_bits=6))
    assert list(tmp_path.iterdir()) == []
