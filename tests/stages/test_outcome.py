"""How much of a face's change was applied, and what reports call it."""

from __future__ import annotations

import numpy as np
import pytest

from quantface_core.stages.outcome import describe_change, is_unchanged, measure_strength


def test_strength_is_measured_where_the_change_is() -> None:
    change, share = np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.float32)
    change[:4], share[:2] = 0.1, 1
    assert measure_strength(change, share, np.ones((8, 8), np.float32)) == pytest.approx(0.5)
    assert measure_strength(change, share, np.zeros((8, 8), np.float32)) == 0


@pytest.mark.parametrize(
    ("strength", "removed", "unchanged", "words"),
    [
        (0.0, "", True, "left as it was: no gain expected"),
        (0.07, "noise", False, "noise removed; left as it was otherwise"),
        (0.5, "noise", False, "restored by 50%"),
        (0.95, "", False, "restored"),
    ],
)
def test_words_follow_the_measure(strength: float, removed: str, unchanged: bool, words: str) -> None:
    assert is_unchanged(strength, removed) == unchanged
    assert describe_change(strength, True, removed) == words


def test_a_chosen_strength_expects_nothing() -> None:
    assert describe_change(0.0, automatic=False) == "left as it was"
