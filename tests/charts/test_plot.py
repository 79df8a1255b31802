"""Scales put values where they belong, and their ticks are round."""

import math

import pytest

from quantface_core.charts.plot import Scale, linear_scale, log_scale


def test_a_logarithmic_scale_gives_every_decade_the_same_room() -> None:
    scale = Scale(1e-6, 1.0, 600, 0, log=True)
    assert [round(scale(10.0**-e)) for e in range(7)] == [0, 100, 200, 300, 400, 500, 600]
    assert scale(0.0) == 600
    assert scale(5.0) == 0
    assert scale(math.nan) == 600


@pytest.mark.parametrize("values", [[1.0], [0.0], [], [1e-9, 1.0], [3e-4, 3.1e-4], [math.inf, 2.0], [math.nan]])
def test_a_scale_holds_its_values_and_has_ticks(values: list[float]) -> None:
    for scale in (log_scale(values, 100, 0), linear_scale(values, 100, 0)):
        assert all(0 <= scale(v) <= 100 for v in values if math.isfinite(v))
        assert all(scale.low <= value <= scale.high for value, _ in scale.ticks())
        assert 1 <= len(scale.ticks()) <= 12


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(2e-5, 2e-1, ["1e-4", "1e-3", "0.01", "0.1"]), (4e-4, 6e-3, ["5e-4", "1e-3", "2e-3", "5e-3"])],
)
def test_logarithmic_ticks_are_powers_or_twos_and_fives(low: float, high: float, labels: list[str]) -> None:
    assert [label for _, label in Scale(low, high, 0, 1, log=True).ticks()] == labels


def test_linear_ticks_are_round() -> None:
    assert [label for _, label in Scale(34.1, 37.9, 0, 1).ticks()] == ["35", "36", "37"]
    assert [label for _, label in Scale(0, 400, 0, 1).ticks(10)][:3] == ["0", "50", "100"]
