"""The interval of a mean difference: as statistics has it, of pairs, and the same at every call."""

from __future__ import annotations

import numpy as np
import pytest
from bootstrap import Difference, paired_difference

RANDOM = np.random.default_rng(0)
FACES = RANDOM.normal(30, 5, 64)  # which differ far more than the methods


def test_the_interval_is_student_s_where_that_holds() -> None:
    gains = RANDOM.normal(0.5, 0.2, 64)
    found = paired_difference(FACES + gains, FACES)
    half = 1.998 * gains.std(ddof=1) / 8  # Student's t at 63 degrees of freedom
    assert found.mean == pytest.approx(gains.mean())
    assert (found.low, found.high) == pytest.approx((gains.mean() - half, gains.mean() + half), abs=0.01)
    assert paired_difference(FACES + gains, FACES) == found != paired_difference(FACES + gains, FACES, seed=1)


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    samples = RANDOM.normal(0.1, 1, (300, 32))
    found = [paired_difference(sample, np.zeros(32), seed, 500) for seed, sample in enumerate(samples)]
    assert 0.9 < np.mean([one.low <= 0.1 <= one.high for one in found]) < 0.98


def test_a_cell_says_what_may_be_chance() -> None:
    assert Difference(0.123, 0.01, 0.2).shown() == "+0.12 [+0.01, +0.20]"
    assert Difference(-0.0123, -0.03, 0.004).shown(3) == "-0.012 [-0.030, +0.004] chance"
