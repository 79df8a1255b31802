"""Check the budgets of bit plans, and parse their limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from ..types import BITS, Budget, is_number, widths_in_words

QUANTITIES = ("activation_bits", "weight_bits", "megabytes", "operations")
"""The fields of a `Budget` that limit a sum over layers."""


def check_budget(budget: Budget) -> None:
    """Raise UsageError for a budget that limits nothing, or naming the field that does not satisfy `Budget`."""
    if not isinstance(budget, Budget):
        raise UsageError(f"a budget is a Budget, such as Budget(weight_bits=4.5), got {budget!r}")
    given = {name: value for name in QUANTITIES if (value := getattr(budget, name)) is not None}
    if not given:
        raise UsageError("give at least one budget: activation bits, weight bits, megabytes or operations")
    for name, value in given.items():
        if not _is_finite(value) or value <= 0:
            raise UsageError(f"{name}: a budget is a number above 0, or None, got {value!r}")
    if not _is_finite(budget.perceptual_weight) or budget.perceptual_weight < 0:
        raise UsageError(f"perceptual_weight is a number of at least 0, got {budget.perceptual_weight!r}")
    if not isinstance(budget.limits, Mapping):
        raise UsageError(f'limits are (least, most) by module, such as {{"vae": (6, 8)}}, got {budget.limits!r}')
    for module, pair in budget.limits.items():
        if not isinstance(module, str):
            raise UsageError(f"a limit's key is a module's name, got {module!r:.40}")
        whole = isinstance(pair, tuple | list) and len(pair) == 2 and all(type(bits) is int for bits in pair)
        if not whole or not BITS.start <= pair[0] <= pair[1] < BITS.stop:
            raise UsageError(f"the limit of {module!r} is (least, most) of {widths_in_words()}, got {pair!r}")


def _is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def parse_limit(text: str) -> tuple[str, tuple[int, int]]:
    """Parse `vae.decoder=6-8` to (module, (least, most)); `=6` sets both. Raises UsageError."""
    module, _, widths = (part.strip() for part in text.partition("="))
    low, _, high = widths.partition("-")
    try:
        least, most = int(low), int(high or low)
    except ValueError:
        least, most = 0, 0
    if not module or not BITS.start <= least <= most < BITS.stop:
        raise UsageError(f"{text!r} is not MODULE=LOW-HIGH with {widths_in_words()}, such as vae.decoder=6-8")
    return module, (least, most)
