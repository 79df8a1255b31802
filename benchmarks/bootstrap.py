"""How far a mean difference between two methods may be chance: a paired bootstrap over the faces that both restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """A mean difference, and the interval that holds it with 95 % confidence."""

    mean: float
    low: float
    high: float

    def shown(self, digits: int = 2) -> str:
        """As a table's cell, which says where the interval holds zero."""
        mean, low, high = (f"{value:+.{digits}f}" for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]{' chance' * (self.low <= 0 <= self.high)}"


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], seed: int = 0, resamples: int = 10_000
) -> Difference:
    """The mean of ours less theirs on the same faces, [N] each, and its percentile interval.

    Every resample draws N of the faces, with replacement. That covers which faces are measured, but not what other
    seeds or calibration images would change in the methods.
    """
    differences = np.subtract(ours, theirs)
    drawn = np.random.default_rng(seed).integers(len(differences), size=(resamples, len(differences)))
    low, high = np.quantile(differences[drawn].mean(1), (0.025, 0.975))
    return Difference(float(differences.mean()), float(low), float(high))
