"""What counts as a number among values of any kind, as users, JSON and NumPy give them."""

from __future__ import annotations

from numbers import Integral, Real


def is_number(value: object) -> bool:
    """Whether a value is a real number, NumPy's included, and no bool; it may be infinite or NaN."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number by its kind, NumPy's included, and no bool: 1.0 is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)
